//! What is measured: flows and kernels, on which grids.

use std::fmt;

/// One operation on one grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    pub operation: Operation,
    pub shape: Vec<usize>,
    pub float: Float,
}

/// The number type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    F32,
    F64,
}

impl Float {
    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::F64 => size_of::<f64>(),
        }
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation {
    /// From t = 0 to t = 1 by RK4.
    Shoot(Flow),
    /// The same, and a gradient back.
    Gradient(Flow),
    /// The same gradient in the least memory: no state is kept, steps are taken again from the start.
    LeanGradient(Flow),
    /// One Gaussian of one field, σ in voxels.
    Gaussian(f64),
    /// The kernel of LDDMM, a sum of four Gaussians, of one field.
    SumOfGaussians,
    /// One field at displaced voxels.
    WarpImage,
    /// A vector field at displaced voxels.
    WarpVector,
    /// The transpose of the last.
    ScatterVector,
    /// LNCC in Gaussian windows of four voxels, value and gradient.
    Lncc,
}

/// A flow: a model with its number of Gaussians and of equal steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    pub dynamics: Dynamics,
    pub gaussians: usize,
    pub steps: usize,
}

/// The models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dynamics {
    Vsvf,
    Lddmm,
    Rdmm,
}

impl Dynamics {
    pub const ALL: [Self; 3] = [Self::Vsvf, Self::Lddmm, Self::Rdmm];
}

impl fmt::Display for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
        })
    }
}

impl fmt::Display for Dynamics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vsvf => "vsvf",
            Self::Lddmm => "lddmm",
            Self::Rdmm => "rdmm",
        })
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shoot(_) => f.write_str("shoot"),
            Self::Gradient(_) => f.write_str("gradient"),
            Self::LeanGradient(_) => f.write_str("lean gradient"),
            Self::Gaussian(sigma) => write!(f, "Gaussian of {sigma} voxels"),
            Self::SumOfGaussians => f.write_str("sum of four Gaussians"),
            Self::WarpImage => f.write_str("warp of an image"),
            Self::WarpVector => f.write_str("warp of a vector"),
            Self::ScatterVector => f.write_str("scatter of a vector"),
            Self::Lncc => f.write_str("LNCC and gradient"),
        }
    }
}

impl Operation {
    /// The flow, for operations that are no mere kernels.
    pub fn flow(self) -> Option<Flow> {
        match self {
            Self::Shoot(flow) | Self::Gradient(flow) | Self::LeanGradient(flow) => Some(flow),
            _ => None,
        }
    }

    /// The model's name, `-` for kernels.
    pub fn model(self) -> String {
        self.flow().map_or("-".to_owned(), |flow| flow.dynamics.to_string())
    }

    /// Number of Gaussians; `None` where there is none.
    pub fn gaussians(self) -> Option<usize> {
        if let Some(flow) = self.flow() {
            return Some(flow.gaussians);
        }
        match self {
            Self::Gaussian(_) => Some(1),
            Self::SumOfGaussians => Some(4),
            _ => None,
        }
    }
}

/// Shooting and gradient of a model with four Gaussians and ten steps.
fn pair(dynamics: Dynamics) -> [Operation; 2] {
    both(Flow { dynamics, gaussians: 4, steps: 10 })
}

fn both(flow: Flow) -> [Operation; 2] {
    [Operation::Shoot(flow), Operation::Gradient(flow)]
}

/// The kernels.
const KERNELS: [Operation; 8] = [
    Operation::Gaussian(2.0),
    Operation::Gaussian(4.0),
    Operation::Gaussian(8.0),
    Operation::SumOfGaussians,
    Operation::WarpImage,
    Operation::WarpVector,
    Operation::ScatterVector,
    Operation::Lncc,
];

/// Grids and number types of the full measurement.
const GRIDS: [(&[usize], Float); 5] = [
    (&[64, 64, 64], Float::F32),
    (&[64, 64, 64], Float::F64),
    (&[40, 96, 96], Float::F32),
    (&[96, 96, 96], Float::F32),
    (&[256, 256], Float::F32),
];

/// Those of the quick one.
const SMALL_GRIDS: [(&[usize], Float); 3] =
    [(&[32, 32, 32], Float::F32), (&[32, 32, 32], Float::F64), (&[64, 64], Float::F32)];

fn on_grids(grids: &[(&[usize], Float)], operations: &[Operation]) -> Vec<Workload> {
    let at = |&(shape, float): &(&[usize], Float)| {
        let workload =
            move |&operation: &Operation| Workload { operation, shape: shape.to_vec(), float };
        operations.iter().map(workload).collect::<Vec<_>>()
    };
    grids.iter().flat_map(at).collect()
}

/// All models on all grids.
pub fn flows() -> Vec<Workload> {
    let lean = Flow { dynamics: Dynamics::Rdmm, gaussians: 4, steps: 10 };
    let mut flows = on_grids(&GRIDS, &Dynamics::ALL.map(pair).concat());
    flows.extend(on_grids(&GRIDS[2..3], &[Operation::LeanGradient(lean)]));
    flows
}

/// All kernels on all grids.
pub fn kernels() -> Vec<Workload> {
    on_grids(&GRIDS, &KERNELS)
}

/// RDMM with other numbers of Gaussians and of steps, on the first grid.
pub fn scaling() -> Vec<Workload> {
    let rdmm = |gaussians, steps| both(Flow { dynamics: Dynamics::Rdmm, gaussians, steps });
    let operations = [rdmm(1, 10), rdmm(2, 10), rdmm(8, 10), rdmm(4, 5), rdmm(4, 20)];
    on_grids(&GRIDS[..1], &operations.concat())
}

/// Everything on small grids, to see that it works.
pub fn quick() -> Vec<Workload> {
    on_grids(&SMALL_GRIDS, &[Dynamics::ALL.map(pair).concat(), KERNELS.to_vec()].concat())
}

impl Workload {
    /// Voxels of the grid.
    pub fn voxels(&self) -> usize {
        self.shape.iter().product()
    }

    /// `64×64×64` and the like.
    pub fn size(&self) -> String {
        self.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
    }

    /// One line that names it and no other.
    pub fn label(&self) -> String {
        let Self { operation, float, .. } = self;
        let mut label = format!("{} {operation} {} {float}", operation.model(), self.size());
        if let Some(Flow { gaussians, steps, .. }) = operation.flow() {
            label = format!("{label} {gaussians} {steps}");
        }
        label
    }
}
