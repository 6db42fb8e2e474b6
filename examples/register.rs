//! Draws a pair of images before registration: `register [source target [labels]] out.png`, a
//! synthetic pair without files.
#![expect(clippy::print_stdout, reason = "an example reports on the terminal")]

mod support;

use rdmm_core::field::{Displacement, Image};
use rdmm_core::grid::Grid;
use rdmm_core::ops::jacobian::jacobian_determinant;
use rdmm_core::ops::spline::Prefilter;
use rdmm_core::ops::warp::Warp;
use rdmm_core::synthetic::Shapes;
use support::panel::{Orientation, Panel};
use support::read::{self, AnyImage};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

fn draw<const D: usize>(
    out: &str,
    source: &Image<f32, D>,
    target: &Image<f32, D>,
    orientation: Orientation,
) -> Fallible<()> {
    let map = Displacement::zeros(target.grid())?;
    let mut coefficients = source.clone();
    Prefilter::new(source.grid()).apply(coefficients.data_mut());
    let mut warped = Image::zeros(target.grid())?;
    let warp = Warp::new(source.grid(), target.grid());
    warp.values::<1>(coefficients.data(), map.data(), warped.data_mut());
    let panel = Panel {
        title: "before registration",
        source,
        target,
        warped: &warped,
        map: &map,
        det: &jacobian_determinant(&map)?,
        sigma0: None,
        sigma1: None,
        orientation,
    };
    panel.draw(out)?;
    println!("{out}: {}", target.grid());
    Ok(())
}

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (source, target, out) = match arguments[..] {
        [source, target, out] => (source, target, out),
        [source, target, labels, out] => {
            println!("labels: {:?}", read::labels::<2>(labels)?.classes());
            (source, target, out)
        }
        [out] => {
            let pair = Shapes::default().pair(&Grid::<2>::unit([128, 128])?)?;
            return draw(out, &pair.moving, &pair.fixed, Orientation::Rows);
        }
        _ => return Err("expected: [source target [labels]] out.png".into()),
    };
    match (read::image(source)?, read::image(target)?) {
        (AnyImage::Two(a), AnyImage::Two(b)) => draw(out, &a, &b, Orientation::of(target)),
        (AnyImage::Three(a), AnyImage::Three(b)) => draw(out, &a, &b, Orientation::of(target)),
        _ => Err("one image has two axes, the other three".into()),
    }
}
