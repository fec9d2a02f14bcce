//! Android's compiled XML, as far as manifests need it: elements in document order with their attributes.

use anyhow::{Context, ensure};

const XML: u16 = 0x0003;
const STRING_POOL: u16 = 0x0001;
const RESOURCE_MAP: u16 = 0x0180;
const START_ELEMENT: u16 = 0x0102;
const UTF8: u32 = 1 << 8;
const NONE: u32 = u32::MAX;

/// Some builds strip attribute names and leave only Android's numbers for them.
const KNOWN_ATTRIBUTES: [(u32, &str); 8] = [
    (0x0101_0003, "name"),
    (0x0101_000f, "debuggable"),
    (0x0101_0021, "targetPackage"),
    (0x0101_020c, "minSdkVersion"),
    (0x0101_021b, "versionCode"),
    (0x0101_021c, "versionName"),
    (0x0101_0270, "targetSdkVersion"),
    (0x0101_0272, "testOnly"),
];

#[derive(Debug, PartialEq)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) attributes: Vec<(String, Value)>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Number(u32),
    Flag(bool),
    /// Points into the resource table, which is not read.
    Reference,
}

/// Reads a compiled XML document.
///
/// # Errors
/// Anything that is cut short or points outside the document.
pub(crate) fn parse(bytes: &[u8]) -> anyhow::Result<Vec<Element>> {
    let document = Chunk { bytes };
    ensure!(document.u16(0)? == XML, "not compiled XML");
    let mut at = usize::from(document.u16(2)?);
    let mut strings = Vec::new();
    let mut resources = Vec::new();
    let mut elements = Vec::new();
    while at + 8 <= bytes.len() {
        let size = document.index(at + 4)?;
        ensure!(size >= 8, "a chunk smaller than its header");
        let chunk = Chunk { bytes: bytes.get(at..at + size).context("a chunk past the end")? };
        match chunk.u16(0)? {
            STRING_POOL => strings = chunk.strings()?,
            RESOURCE_MAP => {
                resources = (2..size / 4).map(|word| chunk.u32(word * 4)).collect::<Result<_, _>>()?;
            }
            START_ELEMENT => elements.push(chunk.element(&strings, &resources)?),
            _ => {}
        }
        at += size;
    }
    Ok(elements)
}

struct Chunk<'a> {
    bytes: &'a [u8],
}

impl Chunk<'_> {
    fn take<const N: usize>(&self, at: usize) -> anyhow::Result<[u8; N]> {
        let slice = self.bytes.get(at..at + N).context("compiled XML is cut short")?;
        Ok(slice.try_into().expect("a slice of N bytes"))
    }

    fn u8(&self, at: usize) -> anyhow::Result<u8> {
        Ok(self.take::<1>(at)?[0])
    }

    fn u16(&self, at: usize) -> anyhow::Result<u16> {
        Ok(u16::from_le_bytes(self.take(at)?))
    }

    fn u32(&self, at: usize) -> anyhow::Result<u32> {
        Ok(u32::from_le_bytes(self.take(at)?))
    }

    fn index(&self, at: usize) -> anyhow::Result<usize> {
        Ok(usize::try_from(self.u32(at)?)?)
    }

    fn strings(&self) -> anyhow::Result<Vec<String>> {
        let header = usize::from(self.u16(2)?);
        let count = self.index(8)?;
        let utf8 = self.u32(16)? & UTF8 != 0;
        let start = self.index(20)?;
        ensure!(count <= self.bytes.len() / 4, "more strings than fit");
        (0..count)
            .map(|string| {
                let at = start + self.index(header + string * 4)?;
                if utf8 { self.utf8(at) } else { self.utf16(at) }
            })
            .collect()
    }

    /// The length in characters comes first, then the length in bytes; each takes two bytes when it is over 127.
    fn utf8(&self, at: usize) -> anyhow::Result<String> {
        let mut at = at;
        let mut length = 0;
        for _ in 0..2 {
            length = usize::from(self.u8(at)?);
            at += 1;
            if length & 0x80 != 0 {
                length = (length & 0x7f) << 8 | usize::from(self.u8(at)?);
                at += 1;
            }
        }
        let text = self.bytes.get(at..at + length).context("a string past the end")?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn utf16(&self, at: usize) -> anyhow::Result<String> {
        let mut at = at;
        let mut length = usize::from(self.u16(at)?);
        at += 2;
        if length & 0x8000 != 0 {
            length = (length & 0x7fff) << 16 | usize::from(self.u16(at)?);
            at += 2;
        }
        let units: Vec<u16> =
            (0..length).map(|unit| self.u16(at + unit * 2)).collect::<anyhow::Result<_>>()?;
        Ok(String::from_utf16_lossy(&units))
    }

    fn element(&self, strings: &[String], resources: &[u32]) -> anyhow::Result<Element> {
        let header = usize::from(self.u16(2)?);
        let string = |index: u32| strings.get(index as usize).cloned().unwrap_or_default();
        let name = string(self.u32(header + 4)?);
        let first = header + usize::from(self.u16(header + 8)?);
        let size = usize::from(self.u16(header + 10)?);
        let count = usize::from(self.u16(header + 12)?);
        let mut attributes = Vec::with_capacity(count);
        for attribute in 0..count {
            let at = first + attribute * size;
            let name = self.u32(at + 4)?;
            let known =
                resources.get(name as usize).and_then(|id| KNOWN_ATTRIBUTES.iter().find(|k| k.0 == *id));
            let name = known.map_or_else(|| string(name), |(_, name)| (*name).to_owned());
            let raw = self.u32(at + 8)?;
            let data = self.u32(at + 16)?;
            let value = match self.u8(at + 15)? {
                0x03 => Value::Text(string(data)),
                0x10 | 0x11 => Value::Number(data),
                0x12 => Value::Flag(data != 0),
                _ if raw != NONE => Value::Text(string(raw)),
                _ => Value::Reference,
            };
            attributes.push((name, value));
        }
        Ok(Element { name, attributes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_an_error_and_never_a_panic() {
        assert!(parse(b"").is_err());
        assert!(parse(&[3, 0, 8, 0, 255, 255, 255, 255, 1, 0, 28, 0, 255, 255, 255, 255]).is_err());
    }

    #[test]
    fn a_manifest_cut_at_any_byte_is_read_or_refused_without_panic() {
        let apk = include_bytes!("../../tests/fixtures/demo-1.4.2.apk");
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&apk[..])).unwrap();
        let mut manifest = Vec::new();
        std::io::copy(&mut archive.by_name("AndroidManifest.xml").unwrap(), &mut manifest).unwrap();
        assert!(parse(&manifest).is_ok());
        for end in 0..manifest.len() {
            let _ = parse(&manifest[..end]);
            let mut broken = manifest.clone();
            broken[end] ^= 0xff;
            let _ = parse(&broken);
        }
    }
}
