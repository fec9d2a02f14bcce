//! What the user chose: flags, then the environment, then the project's `qgjob.toml`, then the user's
//! `config.toml`, then defaults. Tokens live apart, in `credentials.toml`.

pub mod credentials;
pub mod project;
pub mod user;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use reqwest::Url;

use crate::client::{Login, Secret, Source as LoginSource, is_loopback, origin};
use credentials::Credentials;
use project::Project;
use user::User;

/// Where a server is looked for when nothing names one.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";

/// The variables that are read, and what each does.
pub const VARIABLES: &[(&str, &str)] = &[
    ("QGJOB_SERVER", "address of the server, as --server"),
    ("QGJOB_TOKEN", "token to show to the server that is used; never read from flags or project files"),
    ("QGJOB_TOKEN_FILE", "file that holds the token, as --token-file"),
    (
        "ACTIONS_ID_TOKEN_REQUEST_URL, ACTIONS_ID_TOKEN_REQUEST_TOKEN",
        "set by GitHub for jobs with `permissions: id-token: write`: without a token, the login is keyless (docs/KEYLESS.md)",
    ),
    ("QGJOB_ID_TOKEN", "id-token of another CI service for a keyless login; works once, so for one job"),
    ("QGJOB_PROFILE", "profile of config.toml, as --profile"),
    ("QGJOB_ORG_ID", "org, as --org-id"),
    ("QGJOB_OUTPUT", "form of the output, as --output"),
    (
        "QGJOB_LOG",
        "what is logged to stderr: error, warn, info, debug, trace, or a filter such as qgjob=debug",
    ),
    ("QGJOB_LOG_FORMAT", "text or json"),
    (
        "QGJOB_CONFIG_DIR",
        "folder of config.toml and credentials.toml; else $XDG_CONFIG_HOME/qgjob, else ~/.config/qgjob",
    ),
    ("QGJOB_NO_PROGRESS", "when set, no progress display even on a terminal"),
    ("QGJOB_NO_INPUT", "when set, `qgjob init` asks nothing, as in CI"),
    ("QGJOB_INSECURE_HTTP", "when set, allows plain http:// to servers that are not this machine"),
    ("QGJOB_REQUEST_TIMEOUT", "how long one call may take, as --request-timeout"),
    (
        "CI",
        "other than 0 or false: Ctrl-C and SIGTERM cancel what the command made, as with --cancel-on-interrupt",
    ),
    ("NO_COLOR", "when set and not empty, no colours"),
    ("CLICOLOR", "0: no colours"),
    ("CLICOLOR_FORCE", "other than 0: colours even in a pipe"),
    ("TERM", "dumb: neither colours nor progress display"),
];

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A file's text is not as described in `docs/CONFIG.md`.
    #[error("{}: {detail}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line.
        detail: String,
    },
    /// Others can read the tokens.
    #[error("{} can be read by others (mode {mode:o}): it holds tokens", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The profile is not in `config.toml`.
    #[error("there is no profile {name:?} in {}{}", path.display(), known(profiles))]
    NoProfile {
        /// What was asked for.
        name: String,
        /// Where it was looked for.
        path: PathBuf,
        /// What there is.
        profiles: Vec<String>,
    },
    /// The address of the server is not one.
    #[error("{text:?} is no address of a server: {detail}")]
    BadServer {
        /// What was given.
        text: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A token would cross the network readable by all.
    #[error("{0} is not encrypted and not this machine: a token sent there can be read by others")]
    InsecureServer(Url),
    /// What should be a token is none.
    #[error("{0} holds no token of the form qgj_…")]
    NotAToken(String),
    /// What should be an id-token is none.
    #[error("{0} holds no id-token: three parts in base64url with dots between them")]
    NotAnIdToken(String),
}

fn known(profiles: &[String]) -> String {
    if profiles.is_empty() {
        "; it has none".to_owned()
    } else {
        format!("; it has: {}", profiles.join(", "))
    }
}

/// The environment variables, as a value so that tests can choose them.
#[derive(Debug, Clone, Default)]
pub struct Environment(HashMap<String, String>);

impl Environment {
    /// Of this process. Variables that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
        )
    }

    /// The value, unless it is absent or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl Environment {
    /// The same with another value for one.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut all = self.0.clone();
        all.insert(name.to_owned(), value.to_owned());
        Self(all)
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// The folder of `config.toml` and `credentials.toml`; none when there is no home.
pub fn folder(env: &Environment) -> Option<PathBuf> {
    if let Some(chosen) = env.get("QGJOB_CONFIG_DIR") {
        return Some(PathBuf::from(chosen));
    }
    // The XDG rules: a relative path is to be ignored.
    let xdg = env.get("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = xdg.or_else(|| env.get("HOME").map(|home| Path::new(home).join(".config")));
    base.map(|base| base.join("qgjob"))
}

/// What flags say; the environment stands behind them.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--server`.
    pub server: Option<String>,
    /// `--profile`.
    pub profile: Option<String>,
    /// `--org-id`.
    pub org_id: Option<String>,
    /// `--token-file`.
    pub token_file: Option<PathBuf>,
    /// `--insecure-http`.
    pub insecure_http: bool,
}

/// Where a setting comes from, for `doctor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A flag or its environment variable.
    Flag,
    /// The project's `qgjob.toml`.
    Project,
    /// The user's `config.toml`.
    User,
    /// The server that was last started on this machine.
    LocalServer,
    /// Nothing: the default.
    Default,
}

/// The settings that every command uses.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server.
    pub server: Url,
    /// Why this one.
    pub server_from: Source,
    /// What to show it.
    pub token: Option<Secret>,
    /// How to get a token from it, when there is none.
    pub login: Option<Login>,
    /// The org, when one is set.
    pub org_id: Option<String>,
    /// The project's file, if there is one.
    pub project: Option<Project>,
    /// A server that the project names but that is not used, since no credential for it exists.
    pub server_ignored: Option<String>,
    /// The folder of the user's files.
    pub folder: Option<PathBuf>,
}

impl Settings {
    /// Brings all sources together. `dir` is where the project is looked for, upwards.
    ///
    /// # Errors
    /// When a file is unreadable or wrong, and when a token would be sent in the clear.
    pub fn load(flags: &Flags, env: &Environment, dir: &Path) -> Result<Self, Error> {
        let folder = folder(env);
        let user = match &folder {
            Some(folder) => User::load(&folder.join("config.toml"))?,
            None => User::default(),
        };
        let profile = user.profile(flags.profile.as_deref(), folder.as_deref())?;
        let credentials = match &folder {
            Some(folder) => Credentials::load(&folder.join("credentials.toml"))?,
            None => Credentials::default(),
        };
        let project = Project::find(dir)?;

        let mut server_ignored = None;
        // A cloned repository must not lead a token to a server that its owner never logged in to.
        let of_project =
            project.as_ref().and_then(|project| project.file.server.as_deref()).and_then(|text| {
                let trusted = parse_server(text).is_ok_and(|url| credentials.token(&origin(&url)).is_some());
                if !trusted {
                    server_ignored = Some(text.to_owned());
                }
                trusted.then_some(text)
            });
        let candidates = [
            (flags.server.as_deref(), Source::Flag),
            (of_project, Source::Project),
            (profile.server.as_deref(), Source::User),
            (credentials.local_server.as_deref(), Source::LocalServer),
            (Some(DEFAULT_SERVER), Source::Default),
        ];
        let (text, server_from) = candidates
            .into_iter()
            .find_map(|(text, from)| Some((text?, from)))
            .expect("the default is always there");
        let server = parse_server(text)?;
        if server.scheme() == "http" && !is_loopback(&server) && !flags.insecure_http {
            return Err(Error::InsecureServer(server));
        }
        let token = explicit_token(flags, env)?.or_else(|| credentials.token(&origin(&server)).cloned());
        let of_project = project.as_ref().and_then(|project| project.file.org_id.clone());
        let org_id = flags.org_id.clone().or(of_project).or(profile.org_id);
        let login = match &token {
            Some(_) => None,
            None => login(env, org_id.as_deref(), folder.as_deref())?,
        };
        Ok(Self { server, server_from, token, login, org_id, project, server_ignored, folder })
    }
}

fn explicit_token(flags: &Flags, env: &Environment) -> Result<Option<Secret>, Error> {
    let (text, from) = match (&flags.token_file, env.get("QGJOB_TOKEN")) {
        (Some(path), _) => {
            let text =
                std::fs::read_to_string(path).map_err(|cause| Error::File { path: path.clone(), cause })?;
            (text, path.display().to_string())
        }
        (None, Some(text)) => (text.to_owned(), "QGJOB_TOKEN".to_owned()),
        (None, None) => return Ok(None),
    };
    let text = text.trim();
    // Anything else would be sent in a header; a newline or a quote in it is a mistake better told here.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(Error::NotAToken(from));
    }
    Ok(Some(Secret::new(text)))
}

/// How the CI service that this runs in lets it log in, if it does.
fn login(env: &Environment, org: Option<&str>, folder: Option<&Path>) -> Result<Option<Login>, Error> {
    let asked = (env.get("ACTIONS_ID_TOKEN_REQUEST_URL"), env.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN"));
    let source = match (asked, env.get("QGJOB_ID_TOKEN")) {
        ((Some(url), Some(token)), _) => {
            LoginSource::GitHub { url: url.to_owned(), token: Secret::new(token) }
        }
        (_, Some(text)) => LoginSource::Given(id_token(text, "QGJOB_ID_TOKEN")?),
        _ => return Ok(None),
    };
    // What is no name of an org is told by whoever needs one.
    let org_id = org.and_then(|org| org.parse().ok());
    Ok(Some(Login { source, org_id, folder: folder.map(|folder| folder.join("logins")) }))
}

/// Reads an id-token that came `from` there.
///
/// # Errors
/// When it has not the form of one.
pub fn id_token(text: &str, from: &str) -> Result<Secret, Error> {
    let text = text.trim();
    let fits = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !fits || text.split('.').count() != 3 {
        return Err(Error::NotAnIdToken(from.to_owned()));
    }
    Ok(Secret::new(text))
}

/// Reads the address of a server.
///
/// # Errors
/// When it is no `http` or `https` address of a host.
pub fn parse_server(text: &str) -> Result<Url, Error> {
    let wrong = |detail: &str| Error::BadServer { text: text.to_owned(), detail: detail.to_owned() };
    let url: Url = text.parse().map_err(|_| wrong("write it like https://qgjob.example.com"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("it must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("it must not hold a user name or password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it must not hold a ? or #"));
    }
    Ok(url)
}

/// The words of a TOML error, on one line, with the key that is wrong.
pub(crate) fn toml_detail(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let message = error.message().replace('\n', " ");
    match line {
        Some(line) => format!("line {line}: {message}"),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Home {
        dir: tempfile::TempDir,
    }

    impl Home {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap() }
        }

        fn write(&self, name: &str, text: &str) -> &Self {
            let path = self.dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            self
        }

        fn load(&self, flags: &Flags, extra: &[(&str, &str)]) -> Result<Settings, Error> {
            let mut env =
                Environment::from([("QGJOB_CONFIG_DIR", self.dir.path().join("config").to_str().unwrap())]);
            env.0.extend(extra.iter().map(|(k, v)| (k.to_string(), v.to_string())));
            let project = self.dir.path().join("project");
            fs::create_dir_all(&project).unwrap();
            Settings::load(flags, &env, &project)
        }
    }

    const CREDENTIALS: &str = "local_server = \"http://127.0.0.1:4444\"\n\
        [servers.\"http://127.0.0.1:4444\"]\ntoken = \"qgj_adm_local\"\n\
        [servers.\"https://farm.example\"]\ntoken = \"qgj_pat_farm\"\n";

    #[test]
    fn nothing_set_means_the_default_server_without_a_token() {
        let settings = Home::new().load(&Flags::default(), &[]).unwrap();
        assert_eq!(
            (settings.server.as_str(), settings.server_from),
            ("http://127.0.0.1:8080/", Source::Default)
        );
        assert_eq!(settings.token, None);
    }

    #[test]
    fn a_server_started_here_is_found_with_its_token() {
        let home = Home::new();
        home.write("config/credentials.toml", CREDENTIALS);
        let settings = home.load(&Flags::default(), &[]).unwrap();
        assert_eq!((settings.server.port(), settings.server_from), (Some(4444), Source::LocalServer));
        assert_eq!(settings.token, Some(Secret::new("qgj_adm_local")));
    }

    #[test]
    fn flags_beat_the_project_which_beats_the_user() {
        let home = Home::new();
        home.write("config/credentials.toml", CREDENTIALS);
        home.write("config/config.toml", "default_profile = \"work\"\n[profiles.work]\nserver = \"https://user.example\"\norg_id = \"user\"\n");
        assert_eq!(home.load(&Flags::default(), &[]).unwrap().server.host_str(), Some("user.example"));
        home.write("project/qgjob.toml", "server = \"https://farm.example\"\norg_id = \"project\"\n");
        let settings = home.load(&Flags::default(), &[]).unwrap();
        assert_eq!(
            (settings.server.host_str(), settings.org_id.as_deref()),
            (Some("farm.example"), Some("project"))
        );
        let flags = Flags {
            server: Some("https://flag.example".into()),
            org_id: Some("flag".into()),
            ..Flags::default()
        };
        let settings = home.load(&flags, &[]).unwrap();
        assert_eq!(
            (settings.server.host_str(), settings.org_id.as_deref()),
            (Some("flag.example"), Some("flag"))
        );
        assert_eq!(settings.token, None, "a token goes only to the server it was stored for");
    }

    #[test]
    fn a_project_cannot_lead_to_a_server_without_a_credential() {
        let home = Home::new();
        home.write("config/credentials.toml", CREDENTIALS);
        home.write("project/qgjob.toml", "server = \"https://evil.example\"\n");
        let settings = home.load(&Flags::default(), &[]).unwrap();
        assert_eq!(settings.server.port(), Some(4444));
        assert_eq!(settings.server_ignored.as_deref(), Some("https://evil.example"));
    }

    #[test]
    fn a_project_cannot_hold_a_token_and_unknown_keys_are_named() {
        let home = Home::new();
        home.write("project/qgjob.toml", "org_id = \"a\"\ntoken = \"qgj_pat_x\"\n");
        let error = home.load(&Flags::default(), &[]).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("token"), "{error}");
        home.write("project/qgjob.toml", "[submit]\ntimeuot = \"20m\"\n");
        let error = home.load(&Flags::default(), &[]).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("timeuot"), "{error}");
    }

    #[test]
    fn exposed_credentials_are_refused() {
        let home = Home::new();
        home.write("config/credentials.toml", CREDENTIALS);
        let path = home.dir.path().join("config/credentials.toml");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(home.load(&Flags::default(), &[]), Err(Error::Exposed { mode: 0o640, .. })));
    }

    #[test]
    fn the_environment_can_name_the_token() {
        let settings = Home::new().load(&Flags::default(), &[("QGJOB_TOKEN", "qgj_pat_env\n")]).unwrap();
        assert_eq!(settings.token, Some(Secret::new("qgj_pat_env")));
        let bad = Home::new().load(&Flags::default(), &[("QGJOB_TOKEN", "two words")]);
        assert!(matches!(bad, Err(Error::NotAToken(_))));
    }

    #[test]
    fn a_login_is_for_those_who_have_no_token() {
        let github = [
            ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://runner.example/?v=1"),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "t"),
        ];
        let flags = Flags { org_id: Some("own".into()), ..Flags::default() };
        let login = Home::new().load(&flags, &github).unwrap().login.unwrap();
        assert!(matches!(login.source, LoginSource::GitHub { .. }));
        assert_eq!(login.org_id, Some("own".parse().unwrap()));
        let given = ("QGJOB_ID_TOKEN", "a.b.c\n");
        let login = Home::new().load(&flags, &[given]).unwrap().login.unwrap();
        assert!(matches!(&login.source, LoginSource::Given(token) if token.expose() == "a.b.c"));
        assert!(!format!("{login:?}").contains("a.b.c"), "it appears in no debug output");
        for env in
            [&github[..1], &github[1..], &[("QGJOB_ID_TOKEN", "")], &[given, ("QGJOB_TOKEN", "qgj_pat_a")]]
        {
            assert!(Home::new().load(&flags, env).unwrap().login.is_none(), "{env:?}");
        }
        for bad in ["two words", "a.b", "a.b.c.d", "a.b.c\"", "qgj_pat_a"] {
            let error = Home::new().load(&flags, &[("QGJOB_ID_TOKEN", bad)]).unwrap_err();
            assert!(matches!(error, Error::NotAnIdToken(_)) && !error.to_string().contains(bad), "{error}");
        }
    }

    #[test]
    fn plain_http_leaves_the_machine_only_when_asked() {
        let flags = Flags { server: Some("http://10.0.0.1".into()), ..Flags::default() };
        assert!(matches!(Home::new().load(&flags, &[]), Err(Error::InsecureServer(_))));
        assert!(Home::new().load(&Flags { insecure_http: true, ..flags }, &[]).is_ok());
    }

    #[test]
    fn addresses_with_traps_are_refused() {
        for bad in ["farm.example", "ftp://x", "http://user:pw@x", "http://x/?a=b", ""] {
            assert!(parse_server(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_folder_follows_the_environment() {
        let all = [("QGJOB_CONFIG_DIR", "/a"), ("XDG_CONFIG_HOME", "/b"), ("HOME", "/c")];
        assert_eq!(folder(&Environment::from(all)), Some("/a".into()));
        assert_eq!(folder(&Environment::from([all[1], all[2]])), Some("/b/qgjob".into()));
        assert_eq!(
            folder(&Environment::from([("XDG_CONFIG_HOME", "b"), all[2]])),
            Some("/c/.config/qgjob".into())
        );
        assert_eq!(folder(&Environment::default()), None);
    }
}
