//! Parts that are not in `rdmm-core`, each checked and each registering a pair of images: of two brains where `RDMM_DATA`
//! names a folder with them, a generated pair else. The pages on extending quote these files.

mod kernel;
mod metric;
mod observer;
mod pair;
mod penalty;
mod similarity;
mod tableau;
mod term;

use pair::{Fallible, Pair};

fn main() -> Fallible<()> {
    let pair = Pair::found()?;
    println!("{}", pair.name);
    for (name, part) in [
        ("similarity", similarity::register as fn(&Pair) -> Fallible<f64>),
        ("penalty", penalty::register),
        ("tableau", tableau::register),
        ("observer", observer::register),
        ("kernel", kernel::register),
        ("metric", metric::register),
        ("term", term::register),
    ] {
        let gain = part(&pair).map_err(|error| format!("{name}: {error}"))?;
        println!("own {name}: correlation of the images up by {gain:.3}");
        // Six iterations on the finest level alone; each part reaches more than three times this on either pair.
        if gain.is_nan() || gain < 0.02 {
            return Err(format!("{name}: expected a gain of 0.02 at least, found {gain}").into());
        }
    }
    Ok(())
}
