//! Every workflow of the repository, every example, and every snippet of the pages.

use std::fs;
use std::path::{Path, PathBuf};

/// What platform a document is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    GithubWorkflow,
    GithubAction,
    Gitlab,
    Buildkite,
    Circleci,
}

impl Kind {
    /// The name of the schema that `check-jsonschema` brings along.
    pub fn schema(self) -> &'static str {
        match self {
            Self::GithubWorkflow => "vendor.github-workflows",
            Self::GithubAction => "vendor.github-actions",
            Self::Gitlab => "vendor.gitlab-ci",
            Self::Buildkite => "vendor.buildkite",
            Self::Circleci => "vendor.circle-ci",
        }
    }

    /// By the path that the platform reads a document from.
    pub fn of(path: &str) -> Option<Self> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let of_example = |ci: &str| path.starts_with("examples/ci/") && name.starts_with(ci);
        match name {
            "action.yml" => Some(Self::GithubAction),
            _ if path.contains(".github/workflows/") || of_example("github") => Some(Self::GithubWorkflow),
            _ if path.contains(".gitlab") || of_example("gitlab") => Some(Self::Gitlab),
            _ if path.contains(".buildkite/") || of_example("buildkite") => Some(Self::Buildkite),
            _ if path.contains(".circleci/") || of_example("circleci") => Some(Self::Circleci),
            _ => None,
        }
    }
}

/// A document: where it stands, and a file that the tools can read.
#[derive(Debug)]
pub struct Document {
    /// For people: file, and line if it is a snippet.
    pub place: String,
    pub kind: Kind,
    pub path: PathBuf,
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// All of them; snippets are copied below `scratch`.
pub fn all(scratch: &Path) -> Vec<Document> {
    let root = root();
    let mut documents = Vec::new();
    for dir in [".github", "action", "examples/ci"] {
        for path in yaml_files(&root.join(dir)) {
            let place = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            let kind = Kind::of(&place).unwrap_or_else(|| panic!("{place}: for which platform?"));
            documents.push(Document { place, kind, path });
        }
    }
    let pages = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.chain([root.join("README.md"), root.join("action/README.md")]);
    for page in pages.filter(|page| page.extension().is_some_and(|ending| ending == "md") && page.exists()) {
        let place = page.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        documents.extend(snippets(&place, &fs::read_to_string(&page).unwrap(), scratch));
    }
    documents
}

/// The fenced blocks of YAML in a page. The first line of each is a comment with the path that it is for.
pub fn snippets(page: &str, text: &str, scratch: &Path) -> Vec<Document> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, _) in lines.iter().enumerate().filter(|(_, line)| matches!(**line, "```yaml" | "```yml")) {
        let place = format!("{page}:{}", at + 1);
        let body: Vec<&str> = lines[at + 1..].iter().take_while(|line| **line != "```").copied().collect();
        let named = body.first().and_then(|line| line.strip_prefix("# ")).unwrap_or_default();
        let kind = Kind::of(named);
        let kind = kind.unwrap_or_else(|| panic!("{place}: the first line must be `# <path of the file>`"));
        let path = scratch.join(format!("{}-{}", page.replace('/', "-"), at + 1)).join(named);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, body.join("\n") + "\n").unwrap();
        found.push(Document { place, kind, path });
    }
    found
}

fn yaml_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(yaml_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "yml" || ending == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    found
}
