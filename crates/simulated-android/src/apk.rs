//! Reading a real APK: its manifest and the screens of the app under test.

mod binary_xml;

use std::io::{Cursor, Read};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;

use crate::app::Screens;
use binary_xml::{Element, Value};

/// A manifest or a screens file larger than this is refused, in bytes.
const MAX_ENTRY: u64 = 8 * 1024 * 1024;
/// What precedes the central directory of an APK signed with scheme 2 or later.
const SIGNING_BLOCK: &[u8] = b"APK Sig Block 42";

#[derive(Debug, Clone, Default)]
pub(crate) struct Manifest {
    pub(crate) package: String,
    pub(crate) version_code: u64,
    pub(crate) version_name: String,
    /// The split's name, when this APK is an addition to a base APK.
    pub(crate) split: Option<String>,
    pub(crate) min_sdk: u32,
    pub(crate) target_sdk: u32,
    pub(crate) debuggable: bool,
    pub(crate) test_only: bool,
    pub(crate) permissions: Vec<String>,
    /// The activity that a launcher starts, with its full class name.
    pub(crate) launchable: Option<String>,
    pub(crate) instrumentation: Vec<Instrumentation>,
}

#[derive(Debug, Clone)]
pub(crate) struct Instrumentation {
    pub(crate) runner: String,
    pub(crate) target: String,
}

/// What an installer needs to know about an APK.
#[derive(Debug, Clone)]
pub(crate) struct Apk {
    pub(crate) manifest: Manifest,
    pub(crate) screens: Option<Screens>,
    pub(crate) signed: bool,
}

/// Reads an APK.
///
/// # Errors
/// Not a zip file, no readable manifest in it, or `assets/screens.json` that is not what this crate understands.
pub(crate) fn read(bytes: &Bytes) -> anyhow::Result<Apk> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).context("not a zip file")?;
    let manifest = entry(&mut archive, "AndroidManifest.xml")?.context("no AndroidManifest.xml")?;
    let manifest = manifest_from(&binary_xml::parse(&manifest)?)?;
    let screens = match entry(&mut archive, "assets/screens.json")? {
        Some(json) => Some(serde_json::from_slice(&json).context("assets/screens.json")?),
        None => None,
    };
    let old_signature = archive.file_names().flatten().any(|name| {
        name.starts_with("META-INF/") && [".RSA", ".DSA", ".EC"].iter().any(|end| name.ends_with(end))
    });
    let directory = usize::try_from(archive.central_directory_start()).unwrap_or(usize::MAX).min(bytes.len());
    let signed = old_signature || bytes[..directory].ends_with(SIGNING_BLOCK);
    Ok(Apk { manifest, screens, signed })
}

fn entry(archive: &mut zip::ZipArchive<Cursor<&Bytes>>, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
    let file = match archive.by_name(name) {
        Ok(file) => file,
        Err(zip::result::ZipError::FileNotFound) => return Ok(None),
        Err(error) => return Err(error).context(name.to_owned()),
    };
    let mut content = Vec::new();
    file.take(MAX_ENTRY + 1).read_to_end(&mut content).with_context(|| name.to_owned())?;
    ensure!(content.len() as u64 <= MAX_ENTRY, "{name} is larger than {MAX_ENTRY} bytes");
    Ok(Some(content))
}

fn manifest_from(elements: &[Element]) -> anyhow::Result<Manifest> {
    let Some(root) = elements.first().filter(|root| root.name == "manifest") else {
        bail!("the manifest has no <manifest> element");
    };
    let mut manifest = Manifest {
        package: root.text("package").context("the manifest names no package")?,
        version_code: root.number("versionCode").unwrap_or(0),
        version_name: root.text("versionName").unwrap_or_default(),
        split: root.text("split"),
        ..Manifest::default()
    };
    let sdk =
        |element: &Element, name: &str| element.number(name).and_then(|value| u32::try_from(value).ok());
    let mut activity: Option<String> = None;
    let (mut main, mut launcher) = (false, false);
    for element in elements {
        match element.name.as_str() {
            "uses-sdk" => {
                manifest.min_sdk = sdk(element, "minSdkVersion").unwrap_or(1);
                manifest.target_sdk = sdk(element, "targetSdkVersion").unwrap_or(manifest.min_sdk);
            }
            "uses-permission" => manifest.permissions.extend(element.text("name")),
            "application" => {
                manifest.debuggable = element.flag("debuggable");
                manifest.test_only = element.flag("testOnly");
            }
            "activity" | "activity-alias" => activity = element.text("name"),
            "intent-filter" => (main, launcher) = (false, false),
            "action" => main |= element.text("name").as_deref() == Some("android.intent.action.MAIN"),
            "category" => {
                launcher |= element.text("name").as_deref() == Some("android.intent.category.LAUNCHER");
            }
            "service" | "receiver" | "provider" => activity = None,
            "instrumentation" => manifest.instrumentation.extend(element.text("name").map(|runner| {
                let target = element.text("targetPackage").unwrap_or_default();
                Instrumentation { runner, target }
            })),
            _ => {}
        }
        if main && launcher && manifest.launchable.is_none() {
            manifest.launchable = activity.as_deref().map(|name| full_class(&manifest.package, name));
        }
    }
    Ok(manifest)
}

/// Activity names may be written relative to the package.
pub(crate) fn full_class(package: &str, name: &str) -> String {
    if name.starts_with('.') {
        format!("{package}{name}")
    } else if name.contains('.') {
        name.to_owned()
    } else {
        format!("{package}.{name}")
    }
}

impl Element {
    fn value(&self, name: &str) -> Option<&Value> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::Text(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Flag(_) | Value::Reference => None,
        }
    }

    fn number(&self, name: &str) -> Option<u64> {
        match self.value(name)? {
            Value::Number(number) => Some(u64::from(*number)),
            Value::Text(text) => text.parse().ok(),
            Value::Flag(_) | Value::Reference => None,
        }
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Flag(true)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixture_is_read_as_aapt_reads_it() {
        let bytes = Bytes::from_static(include_bytes!("../tests/fixtures/demo-1.4.2.apk"));
        let apk = read(&bytes).unwrap();
        assert_eq!(apk.manifest.package, "dev.qgjob.fixture");
        assert_eq!(apk.manifest.version_code, 7);
        assert_eq!(apk.manifest.version_name, "1.4.2");
        assert_eq!(apk.manifest.min_sdk, 24);
        assert_eq!(apk.manifest.target_sdk, 29);
        assert_eq!(apk.manifest.launchable.as_deref(), Some("dev.qgjob.fixture.MainActivity"));
        assert_eq!(apk.manifest.permissions, ["android.permission.INTERNET"]);
        assert!(apk.manifest.debuggable);
        assert!(apk.signed);
        assert!(apk.screens.is_some());
    }

    #[test]
    fn a_truncated_apk_is_an_error() {
        let whole = include_bytes!("../tests/fixtures/demo-1.4.2.apk");
        assert!(read(&Bytes::copy_from_slice(&whole[..whole.len() / 2])).is_err());
        assert!(read(&Bytes::from_static(b"not an apk")).is_err());
    }
}
