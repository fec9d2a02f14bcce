//! Hash maps for keys that the server hands out itself: nobody outside can choose them so that they collide, so the
//! hash may be a multiplication instead of a keyed function. It halves the time of a claim.

use std::hash::{BuildHasherDefault, Hasher};

pub(super) type Map<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<Multiply>>;

/// Multiplicative hashing (D. Knuth, "The Art of Computer Programming", volume 3, section 6.4), with the golden ratio.
#[derive(Debug, Default)]
pub(super) struct Multiply(u64);

impl Hasher for Multiply {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(23) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_u128(&mut self, number: u128) {
        self.write_u64(number as u64);
        self.write_u64((number >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        // The map looks at the lowest bits, which a multiplication mixes least.
        self.0 ^ (self.0 >> 32)
    }
}
