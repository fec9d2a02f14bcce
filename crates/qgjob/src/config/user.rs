//! The user's `config.toml`: profiles, each a server and an org.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::{Error, toml_detail};

/// `config.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The profile that is used when none is named; else `default`.
    pub default_profile: Option<String>,
    /// The profiles.
    #[serde(default)]
    pub profiles: BTreeMap<String, Profile>,
}

/// One set of choices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Address of the server.
    pub server: Option<String>,
    /// The org.
    pub org_id: Option<String>,
}

impl User {
    /// Reads the file; an absent one is empty.
    ///
    /// # Errors
    /// When it is unreadable or has unknown keys.
    pub fn load(path: &Path) -> Result<Self, Error> {
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|error| Error::Invalid {
                path: path.to_owned(),
                detail: toml_detail(&text, &error),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(cause) => Err(Error::File { path: path.to_owned(), cause }),
        }
    }

    /// The profile that was named, or the default one, which may be absent.
    pub(super) fn profile(&self, named: Option<&str>, folder: Option<&Path>) -> Result<Profile, Error> {
        let name = named.or(self.default_profile.as_deref());
        match self.profiles.get(name.unwrap_or("default")) {
            Some(profile) => Ok(profile.clone()),
            None if name.is_none() => Ok(Profile::default()),
            None => Err(Error::NoProfile {
                name: name.unwrap_or_default().to_owned(),
                path: folder.map(|folder| folder.join("config.toml")).unwrap_or_default(),
                profiles: self.profiles.keys().cloned().collect(),
            }),
        }
    }
}
