//! Fifteen lines of a user: `benches/compile.sh` measures what they cost.

use rdmm_core::prelude::*;
use rdmm_core::similarity::Ncc;
use rdmm_core::synthetic::Shapes;

fn main() -> Result<(), rdmm_core::Error> {
    let grid = Grid::<2>::unit([96, 96])?;
    let pair = Shapes::default().with_outside(1).pair::<f32, 2>(&grid)?;
    let model = Lddmm::new(MultiGaussian::for_grid(&grid));
    let result = Registration::new(model, Ncc).run(&pair.fixed, &pair.moving)?;
    println!("folds: {}", result.report.folds.total().folded);
    Ok(())
}
