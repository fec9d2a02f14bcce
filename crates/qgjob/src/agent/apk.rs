//! What an APK file says about itself: package, versions and the activity that starts it.
//!
//! Reads the compiled `AndroidManifest.xml` from the zip. Only what is needed of the format is read: string
//! pool, resource map, element starts and ends, as `frameworks/base/libs/androidfw/ResourceTypes.h` has them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// A manifest is some 100 KB in the largest apps; more than this is an attack or not a manifest.
const MAX_MANIFEST_BYTES: u64 = 8 << 20;

/// Why a file is no APK that can be installed and started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read it: {0}")]
    Io(#[from] io::Error),
    #[error("not an APK: {0}")]
    NotAnApk(&'static str),
    #[error("its AndroidManifest.xml is damaged: {0}")]
    Manifest(&'static str),
}

/// The identity of an app, as its manifest declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apk {
    pub package: String,
    pub version_code: u64,
    /// Absent if the manifest has none, or only a reference to a resource.
    pub version_name: Option<String>,
    /// Fully qualified; absent for an app without a launcher entry.
    pub launch_activity: Option<String>,
}

impl Apk {
    /// Reads the file at `path`. Blocks for a few milliseconds.
    ///
    /// # Errors
    /// [`Error::NotAnApk`] for any other kind of file, [`Error::Manifest`] for an APK that lies about its
    /// own structure.
    pub fn read(path: &Path) -> Result<Apk, Error> {
        let mut zip = zip::ZipArchive::new(File::open(path)?)
            .map_err(|_| Error::NotAnApk("it is not a zip archive"))?;
        let entry = zip.by_name("AndroidManifest.xml").map_err(|_| {
            Error::NotAnApk("it has no AndroidManifest.xml (an .aab or .ipa cannot be installed)")
        })?;
        let mut bytes = Vec::new();
        entry.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(Error::Manifest("larger than 8 MiB"));
        }
        parse(&bytes)
    }
}

const XML: u16 = 0x0003;
const STRING_POOL: u16 = 0x0001;
const RESOURCE_MAP: u16 = 0x0180;
const START_ELEMENT: u16 = 0x0102;
const END_ELEMENT: u16 = 0x0103;

const ATTR_NAME: u32 = 0x0101_0003;
const ATTR_VERSION_CODE: u32 = 0x0101_021b;
const ATTR_VERSION_NAME: u32 = 0x0101_021c;
const ATTR_VERSION_CODE_MAJOR: u32 = 0x0101_0576;

const TYPE_STRING: u8 = 0x03;
const TYPE_FIRST_INT: u8 = 0x10;
const TYPE_LAST_INT: u8 = 0x1f;
const UTF8_FLAG: u32 = 1 << 8;

/// Little-endian reads that fail instead of panicking on a truncated file.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn slice(self, from: usize, len: usize) -> Result<Bytes<'a>, Error> {
        let end = from.checked_add(len).ok_or(Error::Manifest("a length overflows"))?;
        self.0.get(from..end).map(Bytes).ok_or(Error::Manifest("it ends too early"))
    }
    fn u8(self, at: usize) -> Result<u8, Error> {
        Ok(self.slice(at, 1)?.0[0])
    }
    fn u16(self, at: usize) -> Result<u16, Error> {
        let b = self.slice(at, 2)?.0;
        Ok(u16::from_le_bytes([b[0], b[1]]))
    }
    fn u32(self, at: usize) -> Result<u32, Error> {
        let b = self.slice(at, 4)?.0;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }
}

enum Value {
    Text(String),
    Int(u32),
    /// A reference to a resource, a colour, and the like.
    Other,
}

struct Attribute {
    name: String,
    resource: u32,
    value: Value,
}

fn parse(file: &[u8]) -> Result<Apk, Error> {
    let file = Bytes(file);
    if file.u16(0)? != XML {
        return Err(Error::Manifest("it is not compiled XML"));
    }
    let file = file.slice(0, file.u32(4)? as usize)?;
    let (mut strings, mut resources) = (Vec::new(), Vec::new());
    let mut found = Found::default();
    let mut at = usize::from(file.u16(2)?);
    while at < file.0.len() {
        let (kind, header, size) =
            (file.u16(at)?, usize::from(file.u16(at + 2)?), file.u32(at + 4)? as usize);
        if size < 8 || header > size {
            return Err(Error::Manifest("a chunk has an impossible size"));
        }
        let chunk = file.slice(at, size)?;
        match kind {
            STRING_POOL => strings = string_pool(chunk)?,
            RESOURCE_MAP => {
                resources = (header..size).step_by(4).map(|i| chunk.u32(i)).collect::<Result<_, _>>()?;
            }
            START_ELEMENT => {
                let body = chunk.slice(header, size - header)?;
                found.open(text(&strings, body.u32(4)?)?, attributes(body, &strings, &resources)?);
            }
            END_ELEMENT => found.close(),
            _ => {}
        }
        at += size;
    }
    found.finish()
}

fn text(strings: &[String], index: u32) -> Result<&str, Error> {
    strings
        .get(index as usize)
        .map(String::as_str)
        .ok_or(Error::Manifest("it names a string that is not there"))
}

fn string_pool(chunk: Bytes<'_>) -> Result<Vec<String>, Error> {
    let header = usize::from(chunk.u16(2)?);
    let (count, flags, start) = (chunk.u32(8)? as usize, chunk.u32(16)?, chunk.u32(20)? as usize);
    if count > chunk.0.len() / 4 {
        return Err(Error::Manifest("it claims more strings than it has room for"));
    }
    (0..count)
        .map(|i| {
            let at = start
                .checked_add(chunk.u32(header + 4 * i)? as usize)
                .ok_or(Error::Manifest("a length overflows"))?;
            if flags & UTF8_FLAG != 0 { utf8_string(chunk, at) } else { utf16_string(chunk, at) }
        })
        .collect()
}

fn utf8_string(chunk: Bytes<'_>, at: usize) -> Result<String, Error> {
    // Two lengths come first, in UTF-16 units and in bytes; each takes a second byte when its top bit is set.
    let wide = |at: usize| -> Result<(usize, usize), Error> {
        let first = usize::from(chunk.u8(at)?);
        if first & 0x80 == 0 {
            return Ok((first, 1));
        }
        Ok(((first & 0x7f) << 8 | usize::from(chunk.u8(at + 1)?), 2))
    };
    let (_, skip) = wide(at)?;
    let (len, more) = wide(at + skip)?;
    Ok(String::from_utf8_lossy(chunk.slice(at + skip + more, len)?.0).into_owned())
}

fn utf16_string(chunk: Bytes<'_>, at: usize) -> Result<String, Error> {
    let (mut len, mut start) = (usize::from(chunk.u16(at)?), at + 2);
    if len & 0x8000 != 0 {
        len = (len & 0x7fff) << 16 | usize::from(chunk.u16(at + 2)?);
        start += 2;
    }
    let units: Vec<u16> = chunk
        .slice(start, len.saturating_mul(2))?
        .0
        .chunks_exact(2)
        .map(|b| u16::from_le_bytes([b[0], b[1]]))
        .collect();
    Ok(String::from_utf16_lossy(&units))
}

fn attributes(body: Bytes<'_>, strings: &[String], resources: &[u32]) -> Result<Vec<Attribute>, Error> {
    let (start, size, count) =
        (usize::from(body.u16(8)?), usize::from(body.u16(10)?), usize::from(body.u16(12)?));
    (0..count)
        .map(|i| {
            let at = start + i * size;
            let name = body.u32(at + 4)?;
            let data = body.u32(at + 16)?;
            let value = match body.u8(at + 15)? {
                TYPE_STRING => Value::Text(text(strings, data)?.to_owned()),
                TYPE_FIRST_INT..=TYPE_LAST_INT => Value::Int(data),
                _ => Value::Other,
            };
            Ok(Attribute {
                name: text(strings, name)?.to_owned(),
                resource: resources.get(name as usize).copied().unwrap_or(0),
                value,
            })
        })
        .collect()
}

/// What has been seen while walking the elements.
#[derive(Default)]
struct Found {
    path: Vec<String>,
    package: Option<String>,
    version_code: u64,
    version_name: Option<String>,
    activity: Option<String>,
    main: bool,
    launcher: bool,
    launch: Option<String>,
}

impl Found {
    fn open(&mut self, element: &str, attributes: Vec<Attribute>) {
        let parent = self.path.last().map(String::as_str);
        match (parent, element) {
            (None, "manifest") => {
                for a in attributes {
                    match (a.resource, a.name.as_str(), a.value) {
                        (0, "package", Value::Text(t)) => self.package = Some(t),
                        (ATTR_VERSION_CODE, _, Value::Int(n)) => self.version_code |= u64::from(n),
                        (ATTR_VERSION_CODE_MAJOR, _, Value::Int(n)) => {
                            self.version_code |= u64::from(n) << 32
                        }
                        (ATTR_VERSION_NAME, _, Value::Text(t)) => self.version_name = Some(t),
                        _ => {}
                    }
                }
            }
            (Some("application"), "activity" | "activity-alias") => self.activity = name_of(attributes),
            (Some("activity" | "activity-alias"), "intent-filter") => {
                (self.main, self.launcher) = (false, false)
            }
            (Some("intent-filter"), "action") => {
                self.main |= name_of(attributes).as_deref() == Some("android.intent.action.MAIN");
            }
            (Some("intent-filter"), "category") => {
                self.launcher |= name_of(attributes).as_deref() == Some("android.intent.category.LAUNCHER");
            }
            _ => {}
        }
        self.path.push(element.to_owned());
    }

    fn close(&mut self) {
        let element = self.path.pop();
        let inside = self.path.last().is_some_and(|p| p.starts_with("activity"));
        if element.as_deref() == Some("intent-filter")
            && inside
            && self.main
            && self.launcher
            && self.launch.is_none()
        {
            self.launch = self.activity.clone();
        }
    }

    fn finish(self) -> Result<Apk, Error> {
        let package = self.package.ok_or(Error::Manifest("it names no package"))?;
        let launch_activity = self.launch.map(|name| match name.as_bytes().first() {
            Some(b'.') => format!("{package}{name}"),
            _ if !name.contains('.') => format!("{package}.{name}"),
            _ => name,
        });
        Ok(Apk { package, version_code: self.version_code, version_name: self.version_name, launch_activity })
    }
}

fn name_of(attributes: Vec<Attribute>) -> Option<String> {
    attributes.into_iter().find(|a| a.resource == ATTR_NAME).and_then(|a| match a.value {
        Value::Text(t) => Some(t),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn fixture() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/demo.apk")
    }

    #[test]
    fn reads_what_aapt_reads() {
        assert_eq!(
            Apk::read(&fixture()).unwrap(),
            Apk {
                package: "dev.qgjob.demo".to_owned(),
                version_code: 7,
                version_name: Some("1.4.2".to_owned()),
                launch_activity: Some("dev.qgjob.demo.MainActivity".to_owned()),
            }
        );
    }

    #[test]
    fn says_what_is_wrong_with_another_kind_of_file() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("app.apk");
        std::fs::write(&text, "not a zip").unwrap();
        assert_eq!(Apk::read(&text).unwrap_err().to_string(), "not an APK: it is not a zip archive");

        let mut zip = zip::ZipWriter::new(File::create(&text).unwrap());
        zip.start_file("base/manifest/AndroidManifest.xml", zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(b"proto").unwrap();
        zip.finish().unwrap();
        assert!(matches!(Apk::read(&text), Err(Error::NotAnApk(_))));
    }

    #[test]
    fn no_damage_to_the_manifest_makes_it_panic() {
        let mut zip = zip::ZipArchive::new(File::open(fixture()).unwrap()).unwrap();
        let mut whole = Vec::new();
        zip.by_name("AndroidManifest.xml").unwrap().read_to_end(&mut whole).unwrap();
        parse(&whole).unwrap();
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).is_err(), "cut at {cut}");
        }
        let mut refused = 0;
        for at in 0..whole.len() {
            for value in [0x00, 0x7f, 0xff] {
                let mut bent = whole.clone();
                bent[at] = value;
                refused += usize::from(parse(&bent).is_err());
            }
        }
        assert!(refused > 50, "only {refused} damaged manifests were refused");
    }
}
