//! Which devices a job may use.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::device::Device;

/// The operating system of an app and of the devices that run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Platform {
    /// Android: `.apk`.
    Android,
    /// iOS: `.ipa`, `.app.zip`.
    Ios,
}

/// The kind of thing a test wants to run on.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Whatever is there.
    #[default]
    Any,
    /// An Android emulator.
    Emulator,
    /// A real device.
    Device,
    /// An iOS simulator.
    Simulator,
    /// A device of BrowserStack App Automate.
    Browserstack,
}

macro_rules! words {
    ($type:ident, $what:literal, $($variant:ident => $word:literal),+) => {
        impl $type {
            /// The word used in the CLI, the API and the store.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::model::name::BadName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::model::name::BadName {
                        what: $what,
                        text: text.to_owned(),
                        rule: concat!("is none of:" $(, " ", $word)+),
                    }),
                }
            }
        }
    };
}
pub(crate) use words;

words!(Platform, "platform", Android => "android", Ios => "ios");
words!(Target, "target",
    Any => "any", Emulator => "emulator", Device => "device", Simulator => "simulator", Browserstack => "browserstack");

impl Target {
    /// Whether a device of `kind` will do. An emulator, a simulator and a real device differ; `any` takes all but
    /// BrowserStack, which costs money and so must be asked for.
    pub fn takes(self, kind: Self) -> bool {
        match self {
            Self::Any => kind != Self::Browserstack,
            target => kind == target,
        }
    }
}

/// Narrows a target: every part that is given must hold. Text form: `model=Pixel 7,os>=14,tag=ci`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Selector {
    /// The device's model, compared without regard to case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The lowest version of the operating system, by its numbers: `14` allows 14 and 14.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_at_least: Option<String>,
    /// Tags that the device must all carry.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
}

impl Selector {
    /// Nothing is narrowed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether `device` has all that is asked.
    pub fn matches(&self, device: &Device) -> bool {
        self.model.as_ref().is_none_or(|model| model.eq_ignore_ascii_case(&device.model))
            && self.os_at_least.as_ref().is_none_or(|least| numbers(&device.os_version) >= numbers(least))
            && self.tags.is_subset(&device.tags)
    }
}

impl FromStr for Selector {
    type Err = super::name::BadName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || super::name::BadName {
            what: "device selector",
            text: text.to_owned(),
            rule: "must be like 'model=Pixel 7,os>=14,tag=ci'",
        };
        let mut selector = Self::default();
        for part in text.split(',').map(str::trim) {
            if let Some(least) = part.strip_prefix("os>=") {
                selector.os_at_least = Some(least.to_owned()).filter(|least| !numbers(least).is_empty());
                selector.os_at_least.as_ref().ok_or_else(wrong)?;
            } else {
                match part.split_once('=') {
                    Some(("model", model)) if !model.is_empty() => selector.model = Some(model.to_owned()),
                    Some(("tag", tag)) if !tag.is_empty() => _ = selector.tags.insert(tag.to_owned()),
                    _ => return Err(wrong()),
                }
            }
        }
        Ok(selector)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let model = self.model.iter().map(|model| format!("model={model}"));
        let os = self.os_at_least.iter().map(|least| format!("os>={least}"));
        let tags = self.tags.iter().map(|tag| format!("tag={tag}"));
        f.write_str(&model.chain(os).chain(tags).collect::<Vec<_>>().join(","))
    }
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_survives_its_text() {
        let text = "model=Pixel 7,os>=14,tag=ci";
        assert_eq!(text.parse::<Selector>().unwrap().to_string(), text);
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(numbers("14.1") >= numbers("14") && numbers("9") < numbers("14"));
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for bad in ["", "model", "os>=", "os>=x", "color=red", "model=", "tag="] {
            assert!(bad.parse::<Selector>().is_err(), "{bad:?}");
        }
    }
}
