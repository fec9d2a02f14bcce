//! The files of an attempt that are worth keeping.

use std::fs;
use std::path::{Path, PathBuf};

use super::AttemptDir;

/// A file to be uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactFile {
    pub path: PathBuf,
    /// Path inside the attempt's files, with `/` between parts.
    pub name: String,
    pub media_type: &'static str,
    pub size_bytes: u64,
}

/// The largest blob report that is kept.
const MOST_BLOB: u64 = 64 << 20;

/// How much is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    pub files: usize,
    /// Of each file.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { files: 5_000, bytes: 2 << 30 }
    }
}

/// The name under which the file at a path inside the attempt's folder is kept.
pub(super) fn name(inside: &Path) -> String {
    inside.to_string_lossy().chars().map(|c| if c.is_control() || c == '\\' { '_' } else { c }).collect()
}

/// Everything in the result folders, and the report; and how many files were left out. The report and the
/// device's files come first, so that a suite that writes too much does not lose them.
pub(super) fn collect(dir: &AttemptDir, limits: &Limits) -> (Vec<ArtifactFile>, u32) {
    let mut kept = Kept { root: dir.root(), limits, files: Vec::new(), left_out: 0 };
    kept.add(dir.report());
    kept.add(dir.events());
    match fs::symlink_metadata(dir.blob()) {
        // It holds each attachment once more.
        Ok(meta) if meta.len() > MOST_BLOB => kept.left_out += 1,
        _ => kept.add(dir.blob()),
    }
    for folder in [dir.device(), dir.inline(), dir.results()] {
        kept.walk(&folder);
    }
    kept.files.sort_by(|a, b| a.name.cmp(&b.name));
    (kept.files, kept.left_out)
}

struct Kept<'a> {
    root: &'a Path,
    limits: &'a Limits,
    files: Vec<ArtifactFile>,
    left_out: u32,
}

impl Kept<'_> {
    /// Adds a regular file. Links are no results: they would show what is outside.
    fn add(&mut self, path: PathBuf) {
        let Ok(meta) = fs::symlink_metadata(&path) else { return };
        if !meta.is_file() {
            return;
        }
        if self.files.len() >= self.limits.files || meta.len() > self.limits.bytes {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        let name = name(path.strip_prefix(self.root).unwrap_or(&path));
        let media_type = media_type(&name);
        self.files.push(ArtifactFile { path, name, media_type, size_bytes: meta.len() });
    }

    fn walk(&mut self, dir: &Path) {
        let Ok(entries) = fs::read_dir(dir) else { return };
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        for path in paths {
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() => self.walk(&path),
                _ => self.add(path),
            }
        }
    }
}

const TYPES: &[(&str, &str)] = &[
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("webp", "image/webp"),
    ("gif", "image/gif"),
    ("svg", "image/svg+xml"),
    ("mp4", "video/mp4"),
    ("webm", "video/webm"),
    ("zip", "application/zip"),
    ("json", "application/json"),
    ("ndjson", "application/x-ndjson"),
    ("xml", "application/xml"),
    ("html", "text/html"),
    ("md", "text/markdown"),
    ("csv", "text/csv"),
    ("txt", "text/plain"),
    ("log", "text/plain"),
    ("pdf", "application/pdf"),
];

fn media_type(name: &str) -> &'static str {
    let extension =
        name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default();
    TYPES.iter().find(|(known, _)| *known == extension).map_or("application/octet-stream", |(_, media)| media)
}

/// The file name extension for a media type.
pub(super) fn extension(media_type: &str) -> &'static str {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    TYPES
        .iter()
        .find(|(_, known)| known.eq_ignore_ascii_case(essence))
        .map_or("bin", |(extension, _)| extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[ArtifactFile]) -> Vec<&str> {
        files.iter().map(|file| file.name.as_str()).collect()
    }

    fn attempt() -> (tempfile::TempDir, AttemptDir) {
        let home = tempfile::tempdir().unwrap();
        let dir = AttemptDir::create(&home.path().join("attempt")).unwrap();
        (home, dir)
    }

    #[test]
    fn results_report_and_screens_are_kept_with_their_types() {
        let (_home, dir) = attempt();
        fs::write(dir.report(), "{}").unwrap();
        fs::write(dir.device().join("last-screen.PNG"), "png").unwrap();
        fs::create_dir(dir.results().join("login")).unwrap();
        fs::write(dir.results().join("login/trace.zip"), "zip!").unwrap();
        fs::write(dir.results().join("login/odd\n.xyz"), "").unwrap();
        fs::write(dir.temporary().join("scratch"), "not kept").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.results().join("link")).unwrap();
        let (files, left_out) = collect(&dir, &Limits::default());
        let expected =
            ["device/last-screen.PNG", "report.json", "results/login/odd_.xyz", "results/login/trace.zip"];
        assert_eq!((names(&files), left_out), (expected.to_vec(), 0));
        let types: Vec<&str> = files.iter().map(|file| file.media_type).collect();
        assert_eq!(types, ["image/png", "application/json", "application/octet-stream", "application/zip"]);
        assert_eq!(files[3].size_bytes, 4);
    }

    #[test]
    fn a_blob_report_is_kept_unless_it_is_too_large() {
        let (_home, dir) = attempt();
        fs::create_dir(dir.blob().parent().unwrap()).unwrap();
        let blob = fs::File::create(dir.blob()).unwrap();
        for (bytes, left_out) in [(MOST_BLOB, 0), (MOST_BLOB + 1, 1)] {
            blob.set_len(bytes).unwrap();
            let (files, too_large) = collect(&dir, &Limits::default());
            assert_eq!((names(&files).contains(&"blob/report.zip"), too_large), (left_out == 0, left_out));
        }
    }

    #[test]
    fn too_many_and_too_large_files_are_counted_and_the_report_comes_first() {
        let (_home, dir) = attempt();
        fs::write(dir.report(), "{}").unwrap();
        for number in 0..5 {
            fs::write(dir.results().join(format!("{number}.txt")), "four").unwrap();
        }
        fs::write(dir.results().join("large.txt"), "more than ten").unwrap();
        let (files, left_out) = collect(&dir, &Limits { files: 3, bytes: 10 });
        assert_eq!((names(&files), left_out), (vec!["report.json", "results/0.txt", "results/1.txt"], 4));
    }
}
