//! Tokens, each for one server. The file is readable by its owner alone, and refused when it is not.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Error;
use crate::client::Secret;

/// `credentials.toml`.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The server that was last started on this machine: used when nothing else names one.
    pub local_server: Option<String>,
    tokens: BTreeMap<String, Secret>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDisk {
    #[serde(skip_serializing_if = "Option::is_none")]
    local_server: Option<String>,
    #[serde(default)]
    servers: BTreeMap<String, Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    token: String,
}

impl Credentials {
    /// Reads the file; an absent one is empty.
    ///
    /// # Errors
    /// [`Error::Exposed`] when others can read it.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let failed = |cause| Error::File { path: path.to_owned(), cause };
        let mut file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(cause) => return Err(failed(cause)),
        };
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(Error::Exposed { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        std::io::Read::read_to_string(&mut file, &mut text).map_err(failed)?;
        // The parser's message quotes the line, which may hold a token: only the place is told.
        let on_disk: OnDisk = toml::from_str(&text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text[..at].matches('\n').count() + 1;
            Error::Invalid {
                path: path.to_owned(),
                detail: format!("line {line} is not as docs/CONFIG.md describes"),
            }
        })?;
        let tokens =
            on_disk.servers.into_iter().map(|(origin, entry)| (origin, Secret::new(entry.token))).collect();
        Ok(Self { local_server: on_disk.local_server, tokens })
    }

    /// The token for a server's origin.
    pub fn token(&self, origin: &str) -> Option<&Secret> {
        self.tokens.get(origin)
    }

    /// Keeps a token.
    pub fn set(&mut self, origin: &str, token: Secret) {
        self.tokens.insert(origin.to_owned(), token);
    }

    /// Writes the file, mode 0600, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let failed = |cause| Error::File { path: path.to_owned(), cause };
        let servers = self
            .tokens
            .iter()
            .map(|(origin, token)| (origin.clone(), Entry { token: token.expose().to_owned() }));
        let on_disk = OnDisk { local_server: self.local_server.clone(), servers: servers.collect() };
        let text = toml::to_string(&on_disk).expect("texts in maps are TOML");
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(failed)?;
        }
        let fresh = path.with_extension(format!("{}.new", std::process::id()));
        let written =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).and_then(
                |mut file| {
                    file.write_all(text.as_bytes())?;
                    file.sync_all()
                },
            );
        let replaced = written.and_then(|()| std::fs::rename(&fresh, path));
        if replaced.is_err() {
            _ = std::fs::remove_file(&fresh);
        }
        replaced.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_survive_the_disk_and_stay_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/credentials.toml");
        let mut credentials = Credentials::default();
        credentials.set("http://127.0.0.1:1", Secret::new("qgj_adm_a"));
        credentials.local_server = Some("http://127.0.0.1:1".into());
        credentials.save(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Credentials::load(&path).unwrap();
        assert_eq!(read.token("http://127.0.0.1:1"), Some(&Secret::new("qgj_adm_a")));
        assert_eq!(read.local_server, credentials.local_server);
        assert_eq!(read.token("http://127.0.0.1:2"), None);
    }

    #[test]
    fn a_broken_file_is_told_without_its_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials.toml");
        std::fs::write(&path, "[servers.x]\ntoken = qgj_adm_secret").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let error = Credentials::load(&path).unwrap_err();
        assert!(
            error.to_string().contains("line 2") && !format!("{error:?}").contains("secret"),
            "{error:?}"
        );
    }
}
