//! A Vulkan layer that has drivers keep statistics and final instructions of every compute pipeline, and writes them
//! to a folder. The pipelines are wgpu's own, with its flags, features and layouts.

mod record;

use ash::{khr, vk};
use record::{FOLDER, Record};
use std::ffi::{CStr, c_char, c_void};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The next layer's `vkGetPhysicalDeviceProcAddr`, which this layer does not use.
type OfPhysicalDevice = Option<unsafe extern "system" fn()>;

/// `VkNegotiateLayerInterface` of vk_layer.h.
#[repr(C)]
#[derive(Debug)]
pub struct Negotiation {
    kind: u32,
    next: *mut c_void,
    version: u32,
    instance: Option<vk::PFN_vkGetInstanceProcAddr>,
    device: Option<vk::PFN_vkGetDeviceProcAddr>,
    physical_device: OfPhysicalDevice,
}

/// `VkLayerInstanceLink` and `VkLayerDeviceLink` begin alike; the second has a function for devices.
#[repr(C)]
struct Link {
    next: *mut Link,
    instance: vk::PFN_vkGetInstanceProcAddr,
    device: Option<vk::PFN_vkGetDeviceProcAddr>,
}

/// `VkLayerInstanceCreateInfo` and `VkLayerDeviceCreateInfo`, as far as they hold a link.
#[repr(C)]
struct LinkInfo {
    kind: vk::StructureType,
    next: *const c_void,
    function: u32,
    link: *mut Link,
}

/// What the layer calls. wgpu opens one device at a time, and all instances have the same functions.
struct Next {
    instance_functions: vk::PFN_vkGetInstanceProcAddr,
    instance: vk::Instance,
    device_functions: Option<vk::PFN_vkGetDeviceProcAddr>,
    executables: Option<Executables>,
}

/// The device's functions that describe pipelines.
#[derive(Clone)]
struct Executables {
    device: vk::Device,
    functions: khr::pipeline_executable_properties::DeviceFn,
}

static NEXT: Mutex<Option<Next>> = Mutex::new(None);
static RECORDS: AtomicUsize = AtomicUsize::new(0);

fn with_next<T>(work: impl FnOnce(&mut Option<Next>) -> T) -> T {
    work(&mut NEXT.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The entry point of the loader.
///
/// # Safety
/// `negotiation` points to the loader's structure.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vkNegotiateLoaderLayerInterfaceVersion(
    negotiation: *mut Negotiation,
) -> vk::Result {
    // SAFETY: the caller's promise.
    let negotiation = unsafe { &mut *negotiation };
    negotiation.version = 2;
    negotiation.instance = Some(instance_function);
    negotiation.device = Some(device_function);
    negotiation.physical_device = None;
    vk::Result::SUCCESS
}

/// This layer's function called `name`.
fn own(name: &CStr) -> vk::PFN_vkVoidFunction {
    /// A function of any type as Vulkan returns it.
    macro_rules! function {
        ($function:expr, $kind:ty) => {{
            let function: $kind = $function;
            // SAFETY: Vulkan's functions are all returned as this type, and cast back by their callers.
            Some(unsafe { std::mem::transmute::<$kind, unsafe extern "system" fn()>(function) })
        }};
    }
    match name.to_bytes() {
        b"vkGetInstanceProcAddr" => function!(instance_function, vk::PFN_vkGetInstanceProcAddr),
        b"vkGetDeviceProcAddr" => function!(device_function, vk::PFN_vkGetDeviceProcAddr),
        b"vkCreateInstance" => function!(create_instance, vk::PFN_vkCreateInstance),
        b"vkCreateDevice" => function!(create_device, vk::PFN_vkCreateDevice),
        b"vkCreateComputePipelines" => function!(create, vk::PFN_vkCreateComputePipelines),
        _ => None,
    }
}

unsafe extern "system" fn instance_function(
    instance: vk::Instance,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: Vulkan's names end in a zero.
    if let Some(function) = own(unsafe { CStr::from_ptr(name) }) {
        return Some(function);
    }
    let next = with_next(|next| next.as_ref().map(|next| next.instance_functions))?;
    // SAFETY: the next layer's function, with the caller's arguments.
    unsafe { next(instance, name) }
}

unsafe extern "system" fn device_function(
    device: vk::Device,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: Vulkan's names end in a zero.
    if let Some(function) = own(unsafe { CStr::from_ptr(name) }) {
        return Some(function);
    }
    let next = with_next(|next| next.as_ref().and_then(|next| next.device_functions))?;
    // SAFETY: the next layer's function, with the caller's arguments.
    unsafe { next(device, name) }
}

/// The link of this layer in the chain from `first` on; the next layer's takes its place there.
///
/// # Safety
/// `first` begins a chain of Vulkan's structures.
unsafe fn take_link(first: *const c_void, kind: vk::StructureType) -> Option<&'static Link> {
    let mut at = first.cast_mut().cast::<LinkInfo>();
    // SAFETY: all structures of a chain begin with a kind and the next one; the loader adds one with a link for each
    // layer, which lives as long as the loader.
    unsafe {
        while let Some(info) = at.as_mut() {
            if info.kind == kind && info.function == 0 {
                let link = info.link.as_ref()?;
                info.link = link.next;
                return Some(link);
            }
            at = info.next.cast_mut().cast();
        }
    }
    None
}

unsafe extern "system" fn create_instance(
    info: *const vk::InstanceCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    instance: *mut vk::Instance,
) -> vk::Result {
    // SAFETY: the arguments are the caller's; the next layer's function gets them unchanged.
    unsafe {
        let kind = vk::StructureType::LOADER_INSTANCE_CREATE_INFO;
        let Some(link) = take_link((*info).p_next, kind) else {
            return vk::Result::ERROR_INITIALIZATION_FAILED;
        };
        let name = c"vkCreateInstance".as_ptr();
        let Some(next) = (link.instance)(vk::Instance::null(), name) else {
            return vk::Result::ERROR_INITIALIZATION_FAILED;
        };
        let next: vk::PFN_vkCreateInstance = std::mem::transmute(next);
        let result = next(info, allocator, instance);
        if result == vk::Result::SUCCESS {
            let made = Next {
                instance_functions: link.instance,
                instance: *instance,
                device_functions: None,
                executables: None,
            };
            with_next(|next| *next = Some(made));
        }
        result
    }
}

unsafe extern "system" fn create_device(
    physical: vk::PhysicalDevice,
    info: *const vk::DeviceCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    device: *mut vk::Device,
) -> vk::Result {
    // SAFETY: as in `create_instance`; the names and the feature live until the next layer's function returns.
    unsafe {
        let kind = vk::StructureType::LOADER_DEVICE_CREATE_INFO;
        let (Some(link), Some(instance)) = (
            take_link((*info).p_next, kind),
            with_next(|next| next.as_ref().map(|next| next.instance)),
        ) else {
            return vk::Result::ERROR_INITIALIZATION_FAILED;
        };
        let (Some(next), Some(functions)) = (
            (link.instance)(instance, c"vkCreateDevice".as_ptr()),
            link.device,
        ) else {
            return vk::Result::ERROR_INITIALIZATION_FAILED;
        };
        let next: vk::PFN_vkCreateDevice = std::mem::transmute(next);
        let mut info = *info;
        let count = info.enabled_extension_count as usize;
        let mut names = match count {
            0 => Vec::new(),
            _ => std::slice::from_raw_parts(info.pp_enabled_extension_names, count).to_vec(),
        };
        names.push(khr::pipeline_executable_properties::NAME.as_ptr());
        let mut feature = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
            .pipeline_executable_info(true);
        feature.p_next = info.p_next.cast_mut();
        info.p_next = (&raw const feature).cast();
        info.enabled_extension_count = names.len() as u32;
        info.pp_enabled_extension_names = names.as_ptr();
        let result = next(physical, &info, allocator, device);
        if result == vk::Result::SUCCESS {
            let device = *device;
            let load = |name: &CStr| match functions(device, name.as_ptr()) {
                Some(function) => function as *const c_void,
                None => std::ptr::null(),
            };
            let executables = Executables {
                device,
                functions: khr::pipeline_executable_properties::DeviceFn::load(load),
            };
            with_next(|next| {
                if let Some(next) = next {
                    next.device_functions = Some(functions);
                    next.executables = Some(executables);
                }
            });
        }
        result
    }
}

unsafe extern "system" fn create(
    device: vk::Device,
    cache: vk::PipelineCache,
    count: u32,
    infos: *const vk::ComputePipelineCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    pipelines: *mut vk::Pipeline,
) -> vk::Result {
    let next = with_next(|next| next.as_ref().and_then(|next| next.device_functions));
    let name = c"vkCreateComputePipelines".as_ptr();
    // SAFETY: the next layer's function, found under its name.
    let Some(next) = next.and_then(|next| unsafe { next(device, name) }) else {
        return vk::Result::ERROR_INITIALIZATION_FAILED;
    };
    let mut worst = vk::Result::SUCCESS;
    for i in 0..count as usize {
        // SAFETY: the arguments are the caller's, with two more flags; `infos` and `pipelines` have `count` elements.
        unsafe {
            let next: vk::PFN_vkCreateComputePipelines = std::mem::transmute(next);
            let mut info = *infos.add(i);
            info.flags |= vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
            let result = next(device, cache, 1, &info, allocator, pipelines.add(i));
            if result != vk::Result::SUCCESS {
                worst = result;
            }
            keep(result, *pipelines.add(i));
        }
    }
    worst
}

/// Writes the record of a pipeline. Without a folder, or if it cannot be written, the program finds none and says so.
fn keep(result: vk::Result, pipeline: vk::Pipeline) {
    let mut record = Record {
        error: result.as_raw(),
        ..Record::default()
    };
    if result == vk::Result::SUCCESS {
        let executables = with_next(|next| next.as_ref().and_then(|n| n.executables.clone()));
        // SAFETY: the pipeline was just made, on the device of these functions, with the flags to be asked.
        let described =
            executables.and_then(|e| unsafe { describe(&e, pipeline, &mut record).ok() });
        if described.is_none() {
            return;
        }
    }
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let number = RECORDS.fetch_add(1, Ordering::Relaxed);
    let path = PathBuf::from(folder).join(format!("{number}.json"));
    if let Ok(text) = serde_json::to_vec(&record) {
        let _ = std::fs::write(path, text);
    }
}

/// The elements that a function of Vulkan's lists: it is asked for their number, then for the elements.
fn list<T: Default + Clone>(
    mut ask: impl FnMut(*mut u32, *mut T) -> vk::Result,
) -> ash::prelude::VkResult<Vec<T>> {
    let mut count = 0;
    ask(&mut count, std::ptr::null_mut()).result()?;
    let mut elements = vec![T::default(); count as usize];
    ask(&mut count, elements.as_mut_ptr()).result()?;
    elements.truncate(count as usize);
    Ok(elements)
}

fn text(bytes: &[c_char]) -> String {
    let bytes = bytes.iter().map(|c| *c as u8).take_while(|c| *c != 0);
    String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
}

/// Asks the driver about all executables of a pipeline; a compute pipeline has one.
///
/// # Safety
/// The pipeline is alive, and was made on the device of `executables` with the flags that capture all of this.
unsafe fn describe(
    executables: &Executables,
    pipeline: vk::Pipeline,
    record: &mut Record,
) -> ash::prelude::VkResult<()> {
    let Executables { device, functions } = executables;
    let info = vk::PipelineInfoKHR::default().pipeline(pipeline);
    let properties = functions.get_pipeline_executable_properties_khr;
    // SAFETY: the caller's promise, here and below.
    let properties = list(|count, data| unsafe { properties(*device, &info, count, data) })?;
    for (index, properties) in (0..).zip(&properties) {
        let info = vk::PipelineExecutableInfoKHR::default()
            .pipeline(pipeline)
            .executable_index(index);
        record.subgroup = record.subgroup.max(properties.subgroup_size);
        let statistics = functions.get_pipeline_executable_statistics_khr;
        // SAFETY: as above.
        let statistics = list(|count, data| unsafe { statistics(*device, &info, count, data) })?;
        let values = statistics.iter().map(|of| (text(&of.name), number(of)));
        record.statistics.extend(values);
        // The final instructions; the intermediate code before them is much longer.
        let is_final = |(name, _): &(String, String)| name.contains("ssembly");
        // SAFETY: as above.
        let texts = unsafe { texts(executables, &info) }?;
        record.texts.extend(texts.into_iter().filter(is_final));
    }
    Ok(())
}

fn number(statistic: &vk::PipelineExecutableStatisticKHR<'_>) -> f64 {
    use vk::PipelineExecutableStatisticFormatKHR as Kind;
    // SAFETY: the format says which member of the union is there.
    unsafe {
        match statistic.format {
            Kind::UINT64 => statistic.value.u64 as f64,
            Kind::INT64 => statistic.value.i64 as f64,
            Kind::FLOAT64 => statistic.value.f64,
            _ => f64::from(statistic.value.b32),
        }
    }
}

/// The driver's texts of an executable, under their names.
///
/// # Safety
/// As for [`describe`].
unsafe fn texts(
    executables: &Executables,
    info: &vk::PipelineExecutableInfoKHR<'_>,
) -> ash::prelude::VkResult<Vec<(String, String)>> {
    let Executables { device, functions } = executables;
    let ask = functions.get_pipeline_executable_internal_representations_khr;
    // SAFETY: the caller's promise. The first list gives the sizes; the second call fills buffers of these sizes.
    let (mut found, buffers) = unsafe {
        let mut found = list(|count, data| ask(*device, info, count, data))?;
        let mut buffers: Vec<_> = found.iter().map(|text| vec![0u8; text.data_size]).collect();
        for (text, buffer) in found.iter_mut().zip(&mut buffers) {
            text.p_data = buffer.as_mut_ptr().cast();
        }
        let mut count = found.len() as u32;
        ask(*device, info, &mut count, found.as_mut_ptr()).result()?;
        (found, buffers)
    };
    let content = |buffer: Vec<u8>| {
        let content = String::from_utf8_lossy(&buffer);
        content.trim_end_matches('\0').to_owned()
    };
    let named = found.drain(..).zip(buffers);
    Ok(named
        .map(|(of, buffer)| (text(&of.name), content(buffer)))
        .collect())
}
