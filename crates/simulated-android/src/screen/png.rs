//! Writing PNG files with a palette.

use std::io::Write;

use flate2::Compression;
use flate2::Crc;
use flate2::write::ZlibEncoder;

/// Encodes one byte per pixel, an index into the palette.
pub(super) fn encode(width: u32, height: u32, palette: &[[u8; 3]], pixels: &[u8]) -> Vec<u8> {
    const EIGHT_BITS_INDEXED: [u8; 5] = [8, 3, 0, 0, 0];
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &EIGHT_BITS_INDEXED].concat();
    chunk(&mut file, *b"IHDR", &header);
    chunk(&mut file, *b"PLTE", palette.as_flattened());
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    for row in pixels.chunks(width as usize) {
        // Each row begins with the number of its filter; 0 is none.
        encoder.write_all(&[0]).and_then(|()| encoder.write_all(row)).expect("writing to memory cannot fail");
    }
    chunk(&mut file, *b"IDAT", &encoder.finish().expect("writing to memory cannot fail"));
    chunk(&mut file, *b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    let length = u32::try_from(data.len()).expect("a screen's picture is small");
    file.extend_from_slice(&length.to_be_bytes());
    let mut crc = Crc::new();
    for part in [&kind[..], data] {
        crc.update(part);
        file.extend_from_slice(part);
    }
    file.extend_from_slice(&crc.sum().to_be_bytes());
}
