//! Pictures of the screen: a real PNG with a box per widget and its text in it.

mod font;
mod png;

use crate::device::State;
use crate::ui;

/// The screen's size in pixels, as the phone tells it.
pub(crate) const WIDTH: u32 = 1080;
pub(crate) const HEIGHT: u32 = 2400;

/// Pictures are made smaller by this, since they hold nothing fine.
const SHRINK: u32 = 4;
/// Side of a font's dot in the picture, in pixels.
const DOT: u32 = 2;

/// Indexes into the picture's palette.
#[derive(Debug, Clone, Copy)]
enum Colour {
    Paper,
    Ink,
    Text,
    Button,
    Field,
}

const PALETTE: [[u8; 3]; 5] =
    [[245, 245, 245], [32, 33, 36], [224, 224, 224], [168, 199, 250], [255, 255, 255]];

struct Picture {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl Picture {
    fn fill(&mut self, x: u32, y: u32, width: u32, height: u32, colour: Colour) {
        for row in y..(y + height).min(self.height) {
            for column in x..(x + width).min(self.width) {
                self.pixels[(row * self.width + column) as usize] = colour as u8;
            }
        }
    }

    /// Writes as much of the text as fits before `right`.
    fn write(&mut self, text: &str, x: u32, y: u32, right: u32) {
        let mut x = x;
        for character in text.chars() {
            if x + font::COLUMNS * DOT > right {
                break;
            }
            for (row, bits) in font::glyph(character).into_iter().enumerate() {
                for column in 0..font::COLUMNS {
                    if bits >> (font::COLUMNS - 1 - column) & 1 == 1 {
                        self.fill(x + column * DOT, y + row as u32 * DOT, DOT, DOT, Colour::Ink);
                    }
                }
            }
            x += (font::COLUMNS + 1) * DOT;
        }
    }
}

/// Takes a picture of the screen, as PNG, and counts it.
pub(crate) fn photograph(state: &mut State) -> Vec<u8> {
    state.truth.screenshots += 1;
    let (width, height) = (WIDTH / SHRINK, HEIGHT / SHRINK);
    let mut picture = Picture { width, height, pixels: vec![Colour::Paper as u8; (width * height) as usize] };
    let (package, _) = state.focus();
    picture.write(&package, 4, 8, width);
    for node in ui::nodes(state).iter().filter(|node| node.position.is_some()) {
        let (x, y) = (node.bounds.x / SHRINK, node.bounds.y / SHRINK);
        let (width, height) = (node.bounds.width / SHRINK, node.bounds.height / SHRINK);
        let colour = match node.class.as_str() {
            class if class.ends_with("EditText") => Colour::Field,
            class if class.ends_with("Button") => Colour::Button,
            _ => Colour::Text,
        };
        picture.fill(x, y, width, height, Colour::Ink);
        picture.fill(x + 1, y + 1, width - 2, height - 2, colour);
        let shown = if node.text.is_empty() { node.hint.as_deref().unwrap_or_default() } else { &node.text };
        picture.write(shown, x + 6, y + height / 2 - font::ROWS * DOT / 2, x + width - 4);
    }
    png::encode(picture.width, picture.height, &PALETTE, &picture.pixels)
}

/// Standard base64 with padding, in which WebDriver sends pictures.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let sextet = (bits >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit <= group.len() { char::from(ALPHABET[sextet]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_pads_as_the_standard_says() {
        assert_eq!(
            ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes())),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
        );
    }
}
