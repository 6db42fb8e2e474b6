//! `rdmm`: diffeomorphic registration of medical images from the command line.

#[cfg_attr(not(test), expect(dead_code, reason = "the commands that write reports come next"))]
mod report;

fn main() {}
