//! Slices as PNGs in data URIs.

use base64::Engine as _;

use super::colour::{COLOURS, Palette, Scale};
use super::{Result, Slice};

/// A slice in the colours of a scale; pixels without a value are transparent.
pub(super) fn uri(slice: &Slice, scale: &Scale) -> Result<String> {
    let bytes: Vec<u8> = slice.values.iter().map(|&x| scale.byte(x)).collect();
    bytes_uri([slice.columns, slice.rows], &bytes, scale.palette)
}

/// All colours of a palette, from its low to its high end.
pub(super) fn bar(palette: Palette) -> Result<String> {
    let bytes: Vec<u8> = (0..u8::MAX).collect();
    bytes_uri([COLOURS, 1], &bytes, palette)
}

/// Bytes as they stand in the colours of a palette.
pub(super) fn bytes_uri(shape: [usize; 2], bytes: &[u8], palette: Palette) -> Result<String> {
    let png = encode(shape, bytes, palette)?;
    let text = base64::engine::general_purpose::STANDARD.encode(png);
    Ok(format!("data:image/png;base64,{text}"))
}

fn encode([columns, rows]: [usize; 2], bytes: &[u8], palette: Palette) -> Result<Vec<u8>> {
    let side = |n: usize| u32::try_from(n).map_err(std::io::Error::other);
    let size = [columns, rows].map(side);
    let [width, height] = size.map(|n| n.map_err(png::EncodingError::from));
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width?, height?);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    // Neighbours in a palette are neighbours in value, so that differences compress as in grey pictures.
    encoder.set_filter(png::Filter::Adaptive);
    let mut colours = palette.colours();
    if bytes.contains(&u8::MAX) {
        colours.push([128; 3]);
        let mut opacity = vec![u8::MAX; COLOURS];
        opacity.push(0);
        encoder.set_trns(opacity);
    }
    encoder.set_palette(colours.into_flattened());
    let mut writer = encoder.write_header()?;
    writer.write_image_data(bytes)?;
    writer.finish()?;
    Ok(out)
}
