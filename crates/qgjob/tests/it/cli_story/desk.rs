//! A desk with a home of its own, a test project, and a server beside it.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use sha2::Digest;

pub const SEEDS_SUBMIT: &[&str] =
    &["submit", "--org-id=qualgent", "--app-version-id=xyz123", "--test=tests/onboarding.spec.js"];

/// What a program left behind.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Done {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub struct Desk {
    home: tempfile::TempDir,
    server: Option<Child>,
    /// What the server is told besides its address.
    pub server_args: Vec<String>,
    /// Where the server listens; kept over restarts.
    pub address: String,
}

impl Desk {
    pub fn without_server() -> Self {
        let home = tempfile::tempdir().unwrap();
        let desk = Self { home, server: None, server_args: Vec::new(), address: "127.0.0.1:0".to_owned() };
        let project = desk.project();
        std::fs::create_dir_all(project.join("tests")).unwrap();
        std::fs::write(project.join("package.json"), "{}").unwrap();
        std::fs::write(project.join("package-lock.json"), "{\"lockfileVersion\":3,\"packages\":{}}").unwrap();
        for name in ["onboarding", "login", "cart"] {
            std::fs::write(project.join(format!("tests/{name}.spec.js")), "// a test\n").unwrap();
        }
        desk
    }

    pub async fn new() -> Self {
        let mut desk = Self::without_server();
        desk.start_server().await;
        desk
    }

    pub fn project(&self) -> PathBuf {
        self.home.path().join("project")
    }

    pub fn config(&self) -> PathBuf {
        self.home.path().join(".config/qgjob")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", self.home.path()).env("PATH", std::env::var_os("PATH").unwrap());
        command.env("QGJOB", env!("CARGO_BIN_EXE_qgjob")).current_dir(self.project()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub async fn start_server(&mut self) {
        let mut command = self.command(env!("CARGO_BIN_EXE_qgjob"));
        command
            .args(["server", "run", "--listen", &self.address])
            .args(&self.server_args)
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let out = child.stdout.take().unwrap();
        self.server = Some(child);
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(out).read_line(&mut line).unwrap();
            line
        });
        let line = line.await.unwrap();
        let url = line.split_whitespace().nth(2).unwrap_or_else(|| panic!("the server said {line:?}"));
        self.address = url.trim_start_matches("http://").to_owned();
    }

    pub fn kill_server(&mut self) {
        let mut child = self.server.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The admin's token, as the server's first start left it.
    pub fn admin_token(&self) -> String {
        let text = std::fs::read_to_string(self.config().join("credentials.toml")).unwrap();
        let line = text.lines().find(|line| line.starts_with("token")).unwrap();
        line.split('"').nth(1).unwrap().to_owned()
    }

    pub async fn qgjob(&self, args: &[&str]) -> Done {
        self.start(args).done().await
    }

    pub async fn qgjob_with(&self, env: &[(&str, &str)], args: &[&str]) -> Done {
        self.start_with(env, args).done().await
    }

    pub async fn qgjob_in(&self, dir: &Path, args: &[&str]) -> Done {
        let mut command = self.command(env!("CARGO_BIN_EXE_qgjob"));
        Started::by(command.args(args).current_dir(dir)).done().await
    }

    pub fn start(&self, args: &[&str]) -> Started {
        let mut command = self.command(env!("CARGO_BIN_EXE_qgjob"));
        Started::by(command.args(args))
    }

    pub fn start_with(&self, env: &[(&str, &str)], args: &[&str]) -> Started {
        let mut command = self.command(env!("CARGO_BIN_EXE_qgjob"));
        Started::by(command.args(args).envs(env.iter().copied()))
    }

    pub async fn bash(&self, script: &str) -> Done {
        let mut command = self.command("bash");
        Started::by(command.args(["-c", script])).done().await
    }

    /// Binds a label to a build.
    pub async fn bind_app(&self, label: &str) {
        let apk = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/demo.apk");
        let label = format!("--app-version-id={label}");
        let done = self.qgjob(&["app", "upload", "--org-id=qualgent", &label, apk]).await;
        assert_eq!(done.code, 0, "{done:?}");
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.kill_server();
        }
    }
}

/// A program that runs.
pub struct Started {
    child: Child,
    /// What was read of its output already.
    read: String,
}

impl Started {
    fn by(command: &mut Command) -> Self {
        Self { child: command.spawn().unwrap(), read: String::new() }
    }

    fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(self.pid(), signal).unwrap();
    }

    /// Waits for its first line: it watches now.
    pub async fn has_begun(mut self) -> Self {
        let reading = tokio::task::spawn_blocking(move || {
            // Without a buffer, so that the rest is left for later.
            let out = self.child.stdout.as_mut().unwrap();
            let mut line = Vec::new();
            while !line.ends_with(b"\n") {
                let mut byte = [0];
                out.read_exact(&mut byte).unwrap();
                line.extend(byte);
            }
            self.read = String::from_utf8(line).unwrap();
            self
        });
        let begun = tokio::time::timeout(Duration::from_secs(60), reading).await;
        begun.expect("the program says something").unwrap()
    }

    /// Its end, which must come within a minute.
    pub async fn done(self) -> Done {
        let (pid, read) = (self.pid(), self.read);
        let output = tokio::task::spawn_blocking(move || self.child.wait_with_output().unwrap());
        let Ok(output) = tokio::time::timeout(Duration::from_secs(60), output).await else {
            _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
            panic!("the program did not end");
        };
        let output = output.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let out = read + &text(output.stdout);
        Done { code: output.status.code().unwrap_or(-1), out, err: text(output.stderr) }
    }
}

/// Replaces what differs from run to run: ids, instants, spans, sizes, folders.
pub fn redact(text: &str) -> String {
    let mut done = Vec::new();
    for line in text.lines() {
        let mut line = line.trim_end().to_owned();
        for prefix in ["job_", "run_"] {
            while let Some(at) =
                line.find(prefix).filter(|at| !line[at + 4..].starts_with("ID")).or_else(|| {
                    line.match_indices(prefix).map(|(at, _)| at).find(|at| !line[at + 4..].starts_with("ID"))
                })
            {
                let end = at + 4 + line[at + 4..].bytes().take_while(u8::is_ascii_alphanumeric).count();
                line.replace_range(at..end, &format!("{prefix}ID"));
            }
        }
        let words: Vec<String> = line.split(' ').map(redact_word).collect();
        done.push(words.join(" "));
    }
    let text = done.join("\n");
    // A number and its unit are two words.
    let mut done = String::new();
    let mut rest = text.as_str();
    while let Some((at, length)) = find_quantity(rest) {
        done.push_str(&rest[..at]);
        done.push_str(if rest[at..at + length].ends_with('B') { "SIZE" } else { "SPAN" });
        rest = &rest[at + length..];
    }
    done + rest
}

fn redact_word(word: &str) -> String {
    let inner = word.trim_matches(['(', ')', ';', ',']);
    let instant = inner.len() >= 20 && inner.ends_with('Z') && inner.as_bytes()[10] == b'T';
    let folder = inner.len() > 1 && inner.starts_with('/');
    let sha = inner.trim_end_matches('…');
    let hash = sha.len() >= 12 && sha.bytes().all(|byte| byte.is_ascii_hexdigit());
    match (instant, folder, hash) {
        (true, _, _) => word.replace(inner, "TIME"),
        (_, true, _) => word.replace(inner, "FOLDER"),
        (_, _, true) => word.replace(inner, "HASH"),
        _ => word.to_owned(),
    }
}

/// Place and length of the first `12 ms`, `1.2 s`, `1m 02s` or `4 KB`.
fn find_quantity(text: &str) -> Option<(usize, usize)> {
    let starts = text.char_indices().filter(|(at, c)| {
        c.is_ascii_digit()
            && !text[..*at]
                .ends_with(|before: char| before.is_alphanumeric() || before == '.' || before == '-')
    });
    for (at, _) in starts {
        let number = text[at..].bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let after = &text[at + number..];
        for unit in [" ms", " s", " KB", " MB", " B"] {
            let ends = after.strip_prefix(unit).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric));
            if ends {
                return Some((at, number + unit.len()));
            }
        }
    }
    None
}

pub fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

pub fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

pub fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same app in other bytes: the manifest alone, in an archive of its own.
pub fn altered_apk(from: &str, to: &Path) {
    use std::io::Write;
    let mut zip = zip::ZipArchive::new(std::fs::File::open(from).unwrap()).unwrap();
    let mut manifest = Vec::new();
    zip.by_name("AndroidManifest.xml").unwrap().read_to_end(&mut manifest).unwrap();
    let mut out = zip::ZipWriter::new(std::fs::File::create(to).unwrap());
    out.start_file("AndroidManifest.xml", zip::write::SimpleFileOptions::default()).unwrap();
    out.write_all(&manifest).unwrap();
    out.finish().unwrap();
}
