//! `rdmm`: diffeomorphic registration of medical images from the command line.

fn main() {}
