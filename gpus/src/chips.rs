//! The chips, and all that is assumed of them: this is the one place for figures.

/// Whose compiler it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Maker {
    /// AMD: RADV with ACO.
    Amd,
    /// NVIDIA: NVK with NAK. NVIDIA's own driver has another compiler.
    Nvidia,
    /// Qualcomm: Turnip with ir3. Qualcomm's own driver has another compiler.
    Qualcomm,
    /// Apple: Honeykrisp. Apple's own driver has another compiler.
    Apple,
}

impl Maker {
    /// The name of the shim and of Vulkan's manifest in Debian's packages.
    pub fn files(self) -> [&'static str; 2] {
        match self {
            Self::Amd => ["amdgpu", "radeon"],
            Self::Nvidia => ["nouveau", "nouveau"],
            Self::Qualcomm => ["freedreno", "freedreno"],
            Self::Apple => ["asahi", "asahi"],
        }
    }
}

/// Chips whose units are alike.
#[derive(Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Whose it is.
    pub maker: Maker,
    /// The most registers of a lane that a kernel may take, in the driver's count.
    pub budget: f64,
    /// The reason for this budget.
    pub because: &'static str,
    /// Schedulers of a unit (SIMDs of a compute unit, parts of a multiprocessor).
    pub schedulers: f64,
    /// Whether the driver counts subgroups of 32 where a kernel has 64.
    pub counts_of_32: bool,
    /// Cycles of a scheduler for a multiply-add instruction of a whole subgroup.
    pub fma_cycles: f64,
    /// Cycles for any other instruction of lanes.
    pub alu_cycles: f64,
    /// Whether one scheduler issues all instructions in turn, memory and branches too; else only those of lanes count.
    pub issues_all: bool,
    /// Multiply-adds of matrices (f16 with sums in f32) that a scheduler does in a cycle; 0 without such instructions.
    pub matrix_rate: f64,
    /// Bytes that a unit's workgroup memory moves in a cycle.
    pub shared_width: f64,
    /// Bytes of a unit's workgroup memory.
    pub shared_bytes: f64,
    /// Cycles of a read from beyond the unit.
    pub latency: f64,
}

/// A chip, by the product that its figures are from.
#[derive(Debug)]
pub struct Chip {
    /// The shim's name for it.
    pub name: &'static str,
    /// The product.
    pub product: &'static str,
    /// Its family.
    pub family: &'static Family,
    /// The variable that the shim reads, and its value.
    pub variable: [&'static str; 2],
    /// Units.
    pub units: f64,
    /// Boost clock in GHz, as published.
    pub ghz: f64,
    /// Memory bandwidth in GB/s, as published.
    pub gbs: f64,
}

/// Microseconds from the end of a dispatch to the begin of the next.
pub const LAUNCH_US: f64 = 5.0;
/// The share of the published bandwidth that a kernel reaches.
pub const BANDWIDTH_SHARE: f64 = 0.8;

const GCN: Family = Family {
    name: "Polaris",
    maker: Maker::Amd,
    budget: 128.0,
    because: "two subgroups a SIMD: a single one waits for its own latency",
    schedulers: 4.0,
    counts_of_32: false,
    fma_cycles: 4.0,
    alu_cycles: 4.0,
    issues_all: false,
    matrix_rate: 0.0,
    shared_width: 128.0,
    shared_bytes: 65536.0,
    latency: 600.0,
};
const VEGA: Family = Family {
    name: "Vega",
    ..GCN
};
const RDNA2: Family = Family {
    name: "RDNA2",
    maker: Maker::Amd,
    budget: 168.0,
    because: "three subgroups of 64 a SIMD",
    schedulers: 2.0,
    counts_of_32: true,
    fma_cycles: 2.0,
    alu_cycles: 2.0,
    issues_all: false,
    matrix_rate: 0.0,
    shared_width: 128.0,
    shared_bytes: 65536.0,
    latency: 450.0,
};
const RDNA3: Family = Family {
    name: "RDNA3",
    budget: 192.0,
    because: "four subgroups of 64 a SIMD",
    fma_cycles: 1.0,
    matrix_rate: 128.0,
    ..RDNA2
};
const RDNA4: Family = Family {
    name: "RDNA4",
    matrix_rate: 256.0,
    ..RDNA3
};
const TURING: Family = Family {
    name: "Turing",
    maker: Maker::Nvidia,
    budget: 168.0,
    because: "twelve subgroups a multiprocessor, three a scheduler",
    schedulers: 4.0,
    counts_of_32: false,
    fma_cycles: 2.0,
    alu_cycles: 1.0,
    issues_all: true,
    matrix_rate: 64.0,
    shared_width: 128.0,
    shared_bytes: 65536.0,
    latency: 450.0,
};
const AMPERE: Family = Family {
    name: "Ampere",
    fma_cycles: 1.0,
    shared_bytes: 102_400.0,
    ..TURING
};
const HOPPER: Family = Family {
    name: "Hopper",
    matrix_rate: 317.0,
    shared_bytes: 233_472.0,
    latency: 500.0,
    ..AMPERE
};
const ADRENO: Family = Family {
    name: "Adreno 7xx",
    maker: Maker::Qualcomm,
    budget: 48.0,
    because: "four subgroups of 128 a core",
    schedulers: 2.0,
    counts_of_32: false,
    fma_cycles: 1.0,
    alu_cycles: 1.0,
    issues_all: true,
    matrix_rate: 0.0,
    shared_width: 128.0,
    shared_bytes: 32768.0,
    latency: 500.0,
};
const M1: Family = Family {
    name: "M1",
    maker: Maker::Apple,
    budget: 256.0,
    because: "all halves of registers that an invocation can name",
    schedulers: 4.0,
    counts_of_32: false,
    fma_cycles: 1.0,
    alu_cycles: 1.0,
    issues_all: true,
    matrix_rate: 0.0,
    shared_width: 128.0,
    shared_bytes: 32768.0,
    latency: 500.0,
};

const fn amd(
    name: &'static str,
    product: &'static str,
    family: &'static Family,
    [units, ghz, gbs]: [f64; 3],
) -> Chip {
    Chip {
        name,
        product,
        family,
        variable: ["AMDGPU_GPU_ID", name],
        units,
        ghz,
        gbs,
    }
}

const fn nvidia(
    name: &'static str,
    product: &'static str,
    family: &'static Family,
    chipset: &'static str,
    [units, ghz, gbs]: [f64; 3],
) -> Chip {
    Chip {
        name,
        product,
        family,
        variable: ["NOUVEAU_CHIPSET", chipset],
        units,
        ghz,
        gbs,
    }
}

/// The chips. Units, clock and bandwidth are the makers' published figures of the product.
pub const CHIPS: [Chip; 10] = [
    amd("polaris10", "RX 580", &GCN, [36.0, 1.34, 256.0]),
    amd("vega20", "Radeon VII", &VEGA, [60.0, 1.75, 1024.0]),
    amd("navi21", "RX 6800", &RDNA2, [60.0, 2.1, 512.0]),
    amd("navi31", "RX 7900 XTX", &RDNA3, [96.0, 2.5, 960.0]),
    amd("gfx1201", "RX 9070 XT", &RDNA4, [64.0, 2.97, 640.0]),
    nvidia("nv164", "RTX 2080", &TURING, "164", [46.0, 1.71, 448.0]),
    nvidia("nv172", "RTX 3090", &AMPERE, "172", [82.0, 1.695, 936.0]),
    nvidia("nv180", "H200", &HOPPER, "180", [132.0, 1.98, 4800.0]),
    Chip {
        name: "adreno740",
        product: "Adreno 740",
        family: &ADRENO,
        variable: ["FD_GPU_ID", "740"],
        units: 6.0,
        ghz: 0.68,
        gbs: 67.0,
    },
    Chip {
        name: "m1",
        product: "M1",
        family: &M1,
        variable: ["ASAHI_CHIP", "m1"],
        units: 8.0,
        ghz: 1.278,
        gbs: 68.0,
    },
];

/// The chip called `name`.
pub fn find(name: &str) -> Option<&'static Chip> {
    const ALL: &[Chip] = &CHIPS;
    ALL.iter().find(|chip| chip.name == name)
}
