//! The Open Inference Protocol over HTTP and JSON, with the extension for binary tensors.

use crate::body;
use crate::catalog::{Served, State, Times, VERSION};
use crate::oip::{
    Datatype, EXTENSIONS, Elements, INPUT, Inference, Input, ModelMetadata, Output, OutputName,
};
use crate::record::Record;
use crate::service::Service;
use crate::trouble::{Kind, Outcome, Trouble};
use axum::Extension;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, State as Of};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The length of a body's JSON part, before its binary part.
const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
/// The most dimensions of nested JSON data.
const MOST_DIMENSIONS: usize = 8;

/// The parameters of a request, an input or an output.
type Parameters = Map<String, Value>;

/// A model in a path.
#[derive(Debug)]
pub struct ModelPath {
    model: String,
    /// Empty if the path has none.
    version: String,
}

impl<S: Send + Sync> FromRequestParts<S> for ModelPath {
    type Rejection = Trouble;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Outcome<Self> {
        #[derive(Deserialize)]
        struct Named {
            model: String,
            #[serde(default)]
            version: String,
        }
        let path = Path::<Named>::from_request_parts(parts, state).await;
        let Path(Named { model, version }) =
            path.map_err(|error| Trouble::invalid(error.body_text()))?;
        Ok(Self { model, version })
    }
}

/// A body in JSON.
pub fn json_body(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        // Clients compare the content type as a whole.
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn ok(value: &impl Serialize) -> Response {
    json_body(StatusCode::OK, value)
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let mut response = json_body(self.kind.status(), &json!({ "error": self.message }));
        if let Some(seconds) = self.retry_after_seconds() {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        if self.kind == Kind::Unauthenticated {
            let bearer = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

/// `GET /v2`.
pub async fn server() -> Response {
    ok(&json!({
        "name": "fullconv",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": EXTENSIONS,
    }))
}

/// `GET /v2/health/live`.
pub async fn live(Of(service): Of<Arc<Service>>) -> Response {
    match service.shared.workers.dead() {
        None => ok(&json!({ "live": true })),
        Some(reason) => {
            let body = json!({ "live": false, "error": reason });
            json_body(StatusCode::SERVICE_UNAVAILABLE, &body)
        }
    }
}

/// `GET /v2/health/ready`.
pub async fn ready(Of(service): Of<Arc<Service>>) -> Response {
    let is_live = service.shared.workers.dead().is_none();
    match service.not_ready() {
        None => ok(&json!({ "ready": true, "live": is_live })),
        Some(reason) => {
            let body = json!({ "ready": false, "live": is_live, "error": reason });
            json_body(StatusCode::SERVICE_UNAVAILABLE, &body)
        }
    }
}

/// `GET /v2/models`.
pub async fn models(Of(service): Of<Arc<Service>>) -> Response {
    let states = service.shared.catalog.states().into_iter();
    let names: Vec<_> = states.map(|(name, _)| name).collect();
    ok(&json!({ "models": names }))
}

/// `GET /v2/models/{model}`.
pub async fn model(Of(service): Of<Arc<Service>>, path: ModelPath) -> Outcome<Response> {
    let served = service.shared.catalog.find(&path.model, &path.version)?;
    Ok(ok(&ModelMetadata::of(&served)))
}

/// `GET /v2/models/{model}/ready`.
pub async fn model_ready(Of(service): Of<Arc<Service>>, path: ModelPath) -> Outcome<Response> {
    let found = service.shared.catalog.find(&path.model, &path.version);
    match found {
        Ok(served) if service.shared.workers.any_ready() => {
            Ok(ok(&json!({ "name": served.name, "ready": true })))
        }
        Err(trouble) if trouble.kind == Kind::NotFound => Err(trouble),
        _ => {
            let body = json!({ "name": path.model, "ready": false });
            Ok(json_body(StatusCode::SERVICE_UNAVAILABLE, &body))
        }
    }
}

/// `GET /v2/models/stats`.
pub async fn all_statistics(Of(service): Of<Arc<Service>>) -> Response {
    statistics_of(service.shared.catalog.ready())
}

/// `GET /v2/models/{model}/stats`.
pub async fn statistics(Of(service): Of<Arc<Service>>, path: ModelPath) -> Outcome<Response> {
    let served = service.shared.catalog.find(&path.model, &path.version)?;
    Ok(statistics_of(vec![served]))
}

fn statistics_of(of: Vec<Arc<Served>>) -> Response {
    let times = |times: Times| json!({ "count": times.count, "ns": times.time.as_nanos() as u64 });
    let stats = of.into_iter().map(|served| {
        let counts = served.statistics.counts();
        let last = counts
            .last
            .and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        json!({
            "name": served.name,
            "version": VERSION,
            "last_inference": last.map_or(0, |last| last.as_millis() as u64),
            "inference_count": counts.pictures,
            "execution_count": counts.executions,
            "inference_stats": {
                "success": times(counts.success),
                "fail": times(counts.fail),
                "queue": times(counts.queue),
                "compute_input": times(counts.decode),
                "compute_infer": times(counts.device),
                "compute_output": times(counts.encode),
            },
            "batch_stats": [],
        })
    });
    ok(&json!({ "model_stats": stats.collect::<Vec<_>>() }))
}

/// A model in the index of the repository.
#[derive(Clone, Debug, Serialize)]
pub struct Indexed {
    /// The name.
    pub name: String,
    /// The version; empty if it is not loaded.
    pub version: &'static str,
    /// `READY`, `LOADING` or `UNAVAILABLE`.
    pub state: &'static str,
    /// Why it is unavailable.
    pub reason: String,
}

/// The models of the server and of its folder, only those that take requests if `ready`.
pub fn index(service: &Service, ready: bool) -> Vec<Indexed> {
    let catalog = &service.shared.catalog;
    let of = |(name, state): (String, State)| {
        let (state, reason) = match state {
            State::Ready(_) => ("READY", String::new()),
            State::Loading => ("LOADING", String::new()),
            State::Unavailable(reason) => ("UNAVAILABLE", reason),
        };
        Indexed {
            name,
            version: VERSION,
            state,
            reason,
        }
    };
    let other = |name| Indexed {
        name,
        version: "",
        state: "UNAVAILABLE",
        reason: "not loaded".into(),
    };
    let known = catalog.states().into_iter().map(of);
    let all = known.chain(catalog.others().into_iter().map(other));
    all.filter(|one| !ready || one.state == "READY").collect()
}

/// `POST /v2/repository/index`.
pub async fn repository_index(
    Of(service): Of<Arc<Service>>,
    request: Request<Body>,
) -> Outcome<Response> {
    #[derive(Default, Deserialize)]
    struct Asked {
        #[serde(default)]
        ready: bool,
    }
    let (parts, body) = request.into_parts();
    let body = body::receive(&service, &parts.headers, body).await?;
    let asked = match body.bytes.is_empty() {
        true => Asked::default(),
        false => {
            // A list would pass for the fields of a struct.
            let fields: Parameters =
                serde_json::from_slice(&body.bytes).map_err(|e| not_json(&e))?;
            serde_json::from_value(fields.into()).map_err(|e| not_json(&e))?
        }
    };
    Ok(ok(&index(&service, asked.ready)))
}

/// An error unless requests may load and unload models.
///
/// # Errors
/// `Forbidden`.
pub fn check_control(service: &Service) -> Outcome<()> {
    match service.config.model_control {
        true => Ok(()),
        false => Err(Trouble::new(
            Kind::Forbidden,
            "requests may not load or unload models; the server's flag --model-control allows it",
        )),
    }
}

/// Loads the model called `name`.
///
/// # Errors
/// As [`check_control`] and [`Catalog::load`](crate::catalog::Catalog::load).
pub async fn load(service: &Arc<Service>, name: String) -> Outcome<()> {
    check_control(service)?;
    let shared = service.shared.clone();
    let load = move || shared.catalog.load(&name, &shared.workers);
    let loaded = tokio::task::spawn_blocking(load).await;
    loaded.unwrap_or_else(|_| Err(Trouble::new(Kind::Internal, "a fault of the server")))
}

/// `POST /v2/repository/models/{model}/load`.
pub async fn repository_load(Of(service): Of<Arc<Service>>, path: ModelPath) -> Outcome<Response> {
    load(&service, path.model).await?;
    Ok(ok(&json!({})))
}

/// `POST /v2/repository/models/{model}/unload`.
pub async fn repository_unload(
    Of(service): Of<Arc<Service>>,
    path: ModelPath,
) -> Outcome<Response> {
    check_control(&service)?;
    service.shared.catalog.unload(&path.model)?;
    Ok(ok(&json!({})))
}

/// A request in JSON.
#[derive(Deserialize)]
struct WireRequest<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: Parameters,
    #[serde(borrow)]
    inputs: Vec<WireInput<'a>>,
    #[serde(default)]
    outputs: Vec<WireOutput>,
}

#[derive(Deserialize)]
struct WireInput<'a> {
    name: String,
    shape: Vec<i64>,
    datatype: String,
    #[serde(default)]
    parameters: Parameters,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireOutput {
    name: String,
    #[serde(default)]
    parameters: Parameters,
}

/// How an answer is written.
#[derive(Default)]
struct Form {
    id: Option<String>,
    /// The parameter `binary_data_output`.
    binary: bool,
    /// For each output that was asked for, its own parameter `binary_data`.
    outputs: Vec<Option<bool>>,
}

/// `POST /v2/models/{model}/infer`.
pub async fn infer(
    Of(service): Of<Arc<Service>>,
    Extension(record): Extension<Record>,
    path: ModelPath,
    request: Request<Body>,
) -> Outcome<Response> {
    let served = service.shared.catalog.find(&path.model, &path.version)?;
    record.note(|report| report.model.clone_from(&served.name));
    service.admit()?;
    let (parts, body) = request.into_parts();
    let body = body::receive(&service, &parts.headers, body).await?;
    let (inference, form) = parse(&parts.headers, body.bytes)?;
    let name = served.name.clone();
    // Over this protocol, a file that is no picture is a wrong argument.
    let outcome = service.infer(served, inference, &record).await;
    let outputs = outcome.map_err(|trouble| match trouble.kind {
        Kind::MediaType => Trouble::invalid(trouble.message),
        _ => trouble,
    })?;
    drop(body.share);
    service
        .encode(&record, move || write(&name, &form, &outputs))
        .await
}

fn not_json(error: &serde_json::Error) -> Trouble {
    Trouble::invalid(format!("the request is not as the protocol says: {error}"))
}

/// The inference of a body, and the form of its answer.
fn parse(headers: &HeaderMap, body: Bytes) -> Outcome<(Inference, Form)> {
    let Some(length) = headers.get(HEADER_LENGTH) else {
        return parse_json(&body, Bytes::new());
    };
    let length = length
        .to_str()
        .ok()
        .and_then(|text| text.parse::<usize>().ok());
    match length {
        // The body is the only input.
        Some(0) => {
            let input = Input {
                name: INPUT.into(),
                shape: vec![1],
                elements: Elements::Strings(vec![body]),
            };
            let inference = Inference {
                inputs: vec![input],
                ..Inference::default()
            };
            let form = Form {
                binary: true,
                ..Form::default()
            };
            Ok((inference, form))
        }
        Some(length) if length <= body.len() => parse_json(&body[..length], body.slice(length..)),
        _ => Err(Trouble::invalid(format!(
            "{HEADER_LENGTH} is not the length of a part of the body, which has {} bytes",
            body.len()
        ))),
    }
}

fn parse_json(json: &[u8], mut raw: Bytes) -> Outcome<(Inference, Form)> {
    let request: WireRequest = serde_json::from_slice(json).map_err(|e| not_json(&e))?;
    let only = request.inputs.len() == 1;
    let mut inputs = Vec::with_capacity(request.inputs.len());
    for input in request.inputs {
        let datatype = Datatype::of_input(&input.datatype)?;
        let size = match number(&input.parameters, "binary_data_size")? {
            // The size of the only input follows from the body's.
            None if input.data.is_none() && only && !raw.is_empty() => Some(raw.len() as u64),
            size => size,
        };
        let elements = match (size, input.data) {
            (Some(_), Some(_)) => {
                let text = format!("input {:?} has both data and binary_data_size", input.name);
                return Err(Trouble::invalid(text));
            }
            (None, None) => {
                let text = format!(
                    "input {:?} has neither data nor binary_data_size",
                    input.name
                );
                return Err(Trouble::invalid(text));
            }
            (Some(size), None) => {
                if size > raw.len() as u64 {
                    return Err(Trouble::invalid(format!(
                        "input {:?} has binary_data_size {size}, and the body has {} bytes left",
                        input.name,
                        raw.len()
                    )));
                }
                Elements::from_raw(datatype, raw.split_to(size as usize))?
            }
            (None, Some(data)) => from_json(datatype, data)?,
        };
        inputs.push(Input {
            name: input.name,
            shape: input.shape,
            elements,
        });
    }
    if !raw.is_empty() {
        let text = format!("the body has {} bytes after those of its inputs", raw.len());
        return Err(Trouble::invalid(text));
    }
    let mut form = Form {
        id: request.id,
        binary: flag(&request.parameters, "binary_data_output")?.unwrap_or(false),
        outputs: Vec::new(),
    };
    for output in &request.outputs {
        if output.parameters.contains_key("classification") {
            let text = format!("output {:?}: classification is not supported", output.name);
            return Err(Trouble::invalid(text));
        }
        form.outputs.push(flag(&output.parameters, "binary_data")?);
    }
    let inference = Inference {
        inputs,
        outputs: request
            .outputs
            .into_iter()
            .map(|output| output.name)
            .collect(),
        priority: number(&request.parameters, "priority")?.unwrap_or(0),
        timeout: match number(&request.parameters, "timeout")? {
            None | Some(0) => None,
            Some(microseconds) => Some(Duration::from_micros(microseconds)),
        },
    };
    Ok((inference, form))
}

/// The whole number under `name`.
fn number(parameters: &Parameters, name: &str) -> Outcome<Option<u64>> {
    match parameters.get(name) {
        None => Ok(None),
        // Some clients send every parameter as text.
        Some(Value::String(text)) if text.parse::<u64>().is_ok() => Ok(text.parse().ok()),
        Some(value) => match value.as_u64() {
            Some(number) => Ok(Some(number)),
            None => Err(Trouble::invalid(format!(
                "parameter {name:?} is {value}, no whole number"
            ))),
        },
    }
}

/// The truth value under `name`.
fn flag(parameters: &Parameters, name: &str) -> Outcome<Option<bool>> {
    match parameters.get(name) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(value) => {
            let text = format!("parameter {name:?} is {value}, neither true nor false");
            Err(Trouble::invalid(text))
        }
    }
}

/// The elements of a tensor's `data`: flat, or nested as the shape is.
fn from_json(datatype: Datatype, data: &RawValue) -> Outcome<Elements> {
    let mut deserializer = serde_json::Deserializer::from_str(data.get());
    if datatype == Datatype::Bytes {
        let mut texts: Vec<String> = Vec::new();
        Flat {
            all: &mut texts,
            depth: 0,
        }
        .deserialize(&mut deserializer)
        .map_err(|error| Trouble::invalid(format!("input {INPUT:?}: {error}")))?;
        let decode = |text: String| {
            BASE64.decode(text).map(Bytes::from).map_err(|error| {
                Trouble::invalid(format!(
                    "input {INPUT:?}: in JSON, an element of BYTES is a picture file in base64: {error}"
                ))
            })
        };
        return Ok(Elements::Strings(
            texts.into_iter().map(decode).collect::<Outcome<_>>()?,
        ));
    }
    let mut bytes: Vec<u8> = Vec::new();
    Flat {
        all: &mut bytes,
        depth: 0,
    }
    .deserialize(&mut deserializer)
    .map_err(|error| Trouble::invalid(format!("input {INPUT:?}: {error}")))?;
    Ok(Elements::Uint8(bytes.into()))
}

/// Collects the elements of nested lists.
struct Flat<'a, T> {
    all: &'a mut Vec<T>,
    depth: usize,
}

/// An element, or a list of them.
enum Nested<T> {
    One(T),
    List,
}

impl<'de, T: Element> DeserializeSeed<'de> for Flat<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let (all, depth) = (self.all, self.depth);
        let visitor = FlatVisitor { all, depth };
        match deserializer.deserialize_any(visitor)? {
            Nested::One(element) => all.push(element),
            Nested::List => {}
        }
        Ok(())
    }
}

/// What nested lists hold.
trait Element: Sized {
    const WHAT: &'static str;
    fn of_number(number: u64) -> Option<Self>;
    fn of_text(text: &str) -> Option<Self>;
}

impl Element for u8 {
    const WHAT: &'static str = "whole numbers from 0 to 255";

    fn of_number(number: u64) -> Option<Self> {
        number.try_into().ok()
    }

    fn of_text(_: &str) -> Option<Self> {
        None
    }
}

impl Element for String {
    const WHAT: &'static str = "texts";

    fn of_number(_: u64) -> Option<Self> {
        None
    }

    fn of_text(text: &str) -> Option<Self> {
        Some(text.into())
    }
}

struct FlatVisitor<'a, T> {
    all: &'a mut Vec<T>,
    depth: usize,
}

impl<'de, T: Element> Visitor<'de> for FlatVisitor<'_, T> {
    type Value = Nested<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, in lists", T::WHAT)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Nested<T>, E> {
        let wrong = || E::invalid_value(serde::de::Unexpected::Unsigned(number), &self);
        T::of_number(number).map(Nested::One).ok_or_else(wrong)
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Nested<T>, E> {
        match number.fract() == 0.0 && number >= 0.0 {
            true => self.visit_u64(number as u64),
            false => Err(E::invalid_value(
                serde::de::Unexpected::Float(number),
                &self,
            )),
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Nested<T>, E> {
        let wrong = || E::invalid_type(serde::de::Unexpected::Other("a text"), &self);
        T::of_text(text).map(Nested::One).ok_or_else(wrong)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Nested<T>, A::Error> {
        if self.depth == MOST_DIMENSIONS {
            return Err(serde::de::Error::custom("the data is nested too deeply"));
        }
        let depth = self.depth + 1;
        while list
            .next_element_seed(Flat {
                all: self.all,
                depth,
            })?
            .is_some()
        {}
        Ok(Nested::List)
    }
}

/// The answer's body: JSON, and after it the binary tensors.
fn write(model: &str, form: &Form, outputs: &[Output]) -> Outcome<Response> {
    let mut binary: Vec<u8> = Vec::new();
    let mut entries = Vec::with_capacity(outputs.len());
    for (i, output) in outputs.iter().enumerate() {
        let Output {
            name,
            shape,
            elements,
        } = output;
        let mut entry = json!({
            "name": OutputName::name(*name),
            "datatype": elements.datatype().name(),
            "shape": shape,
        });
        if form
            .outputs
            .get(i)
            .copied()
            .flatten()
            .unwrap_or(form.binary)
        {
            let raw = elements.to_raw();
            entry["parameters"] = json!({ "binary_data_size": raw.len() });
            binary.extend(raw);
        } else {
            entry["data"] = match elements {
                Elements::Uint8(bytes) => json!(&bytes[..]),
                Elements::Fp32(values) => json!(values),
                Elements::Strings(all) => all.iter().map(|file| BASE64.encode(file)).collect(),
            };
        }
        entries.push(entry);
    }
    let mut answer = json!({
        "model_name": model,
        "model_version": VERSION,
        "outputs": entries,
    });
    if let Some(id) = &form.id {
        answer["id"] = json!(id);
    }
    if binary.is_empty() {
        return Ok(ok(&answer));
    }
    let mut body = answer.to_string().into_bytes();
    let length = body.len();
    body.extend(binary);
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        ),
        (HEADER_LENGTH, length.into()),
    ];
    Ok((headers, body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(json: &Value, raw: &'static [u8]) -> Outcome<(Inference, Form)> {
        let text = json.to_string();
        let mut headers = HeaderMap::new();
        if !raw.is_empty() {
            headers.insert(HEADER_LENGTH, text.len().into());
        }
        let body = [text.as_bytes(), raw].concat();
        parse(&headers, body.into())
    }

    fn input(extra: Value) -> Value {
        let mut input = json!({ "name": "image", "shape": [1, 1, 1, 3], "datatype": "UINT8" });
        for (key, value) in extra.as_object().unwrap() {
            input[key] = value.clone();
        }
        json!({ "inputs": [input] })
    }

    #[test]
    fn data_may_be_flat_nested_or_binary() {
        let expected = Elements::Uint8(vec![1, 2, 3].into());
        for (request, raw) in [
            (input(json!({ "data": [1, 2, 3] })), &b""[..]),
            (input(json!({ "data": [[[[1, 2.0, 3]]]] })), b""),
            (
                input(json!({ "parameters": { "binary_data_size": 3 } })),
                b"\x01\x02\x03",
            ),
            (input(json!({})), b"\x01\x02\x03"),
        ] {
            let (inference, _) = parsed(&request, raw).unwrap();
            assert_eq!(inference.inputs[0].elements, expected);
        }
    }

    #[test]
    fn wrong_requests_say_what_is_wrong() {
        let deep = (0..20).fold(json!(1), |inner, _| json!([inner]));
        for (request, raw, part) in [
            (input(json!({ "data": [1, 256, 3] })), &b""[..], "0 to 255"),
            (input(json!({ "data": [1, -1, 3] })), b"", "0 to 255"),
            (input(json!({ "data": ["a"] })), b"", "0 to 255"),
            (input(json!({ "data": deep })), b"", "too deeply"),
            (input(json!({})), b"", "neither data nor"),
            (
                input(json!({ "data": [1, 2, 3] })),
                b"\x01",
                "1 bytes after",
            ),
            (
                input(json!({ "parameters": { "binary_data_size": 4 } })),
                b"123",
                "3 bytes left",
            ),
            (
                input(json!({ "parameters": { "binary_data_size": 2 } })),
                b"123",
                "1 bytes after",
            ),
            (
                input(json!({ "parameters": { "binary_data_size": -1 } })),
                b"123",
                "no whole",
            ),
            (
                input(json!({ "datatype": "FP32", "data": [1] })),
                b"",
                "takes UINT8",
            ),
            (
                input(json!({ "datatype": "BYTES", "data": ["?"] })),
                b"",
                "base64",
            ),
            (json!({}), b"", "inputs"),
            (json!([]), b"", "not as the protocol says"),
        ] {
            let trouble = parsed(&request, raw).err().unwrap();
            assert_eq!(trouble.kind, Kind::Invalid);
            assert!(trouble.message.contains(part), "{}", trouble.message);
        }
    }

    #[test]
    fn a_header_of_0_makes_the_body_the_input() {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER_LENGTH, 0.into());
        let (inference, form) = parse(&headers, Bytes::from_static(b"abc")).unwrap();
        assert_eq!(
            inference.inputs[0].elements,
            Elements::Strings(vec!["abc".into()])
        );
        assert!(form.binary);
        headers.insert(HEADER_LENGTH, 4.into());
        assert!(parse(&headers, Bytes::from_static(b"abc")).is_err());
    }
}
