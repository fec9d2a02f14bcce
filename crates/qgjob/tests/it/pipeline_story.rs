//! Workflows, examples and snippets: what platforms would say to them, and that what they run does what is promised.

mod checks;
mod documents;
mod examples;
mod scripts;
mod steps;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use documents::{Document, Kind};

/// Shows documents to every tool that knows their kind.
fn check(documents: &[Document]) -> Result<(), String> {
    let mut by_kind: BTreeMap<Kind, Vec<&Path>> = BTreeMap::new();
    for document in documents {
        by_kind.entry(document.kind).or_default().push(&document.path);
    }
    let mut against = Vec::new();
    for (kind, paths) in by_kind {
        against.extend(checks::schema(kind, &paths).err());
        if kind == Kind::GithubWorkflow {
            against.extend(checks::actionlint(&paths).err());
        }
        if matches!(kind, Kind::GithubWorkflow | Kind::GithubAction) {
            against.extend(checks::zizmor(&paths).err());
        }
    }
    if against.is_empty() { Ok(()) } else { Err(against.join("\n")) }
}

#[test]
fn every_workflow_example_and_snippet_is_one_that_its_platform_takes() {
    let scratch = tempfile::tempdir().unwrap();
    let documents = documents::all(scratch.path());
    for (_, kind, _) in examples::CIS {
        assert!(documents.iter().any(|document| document.kind == kind), "no document of kind {kind:?}");
    }
    if let Err(against) = check(&documents) {
        let places: Vec<_> = documents.iter().map(|document| &document.place).collect();
        panic!("{against}\nof {places:#?}");
    }
}

#[test]
fn what_init_writes_is_taken_by_the_platform_whatever_the_project_is_like() {
    let scratch = tempfile::tempdir().unwrap();
    let documents = examples::written(scratch.path());
    assert_eq!(documents.len(), 32);
    if let Err(against) = check(&documents) {
        panic!("{against}");
    }
}

/// A workflow with one fault that only one tool knows.
const WORKFLOW: &str = "name: a\non: push\npermissions: {}\nconcurrency:\n  group: a\n  cancel-in-progress: true\njobs:\n  a:\n    \
    name: a\n    runs-on: ubuntu-latest\n    timeout-minutes: 5\n    steps:\n      - STEP\n";

#[test]
fn each_tool_finds_what_is_wrong() {
    let scratch = tempfile::tempdir().unwrap();
    let written = |name: &str, text: &str| {
        let path = scratch.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    };
    let workflow = |step: &str| written(".github/workflows/a.yml", &WORKFLOW.replace("STEP", step));

    let good = workflow("run: echo good");
    assert_eq!(checks::schema(Kind::GithubWorkflow, &[&good]), Ok(()));
    assert_eq!(checks::actionlint(&[&good]), Ok(()));
    assert_eq!(checks::zizmor(&[&good]), Ok(()));
    assert_eq!(checks::shellcheck("bash", "exec \"$A\"\n"), Ok(()));

    let refused = |verdict: checks::Verdict, word: &str| {
        let against = verdict.unwrap_err();
        assert!(against.contains(word), "{word} is not in {against}");
    };
    let bad = workflow("rum: echo");
    refused(checks::schema(Kind::GithubWorkflow, &[&bad]), "rum");
    let bad = workflow("run: echo ${{ steps.none.outputs.x }} ${{ github.nothing }}");
    refused(checks::actionlint(&[&bad]), "github");
    let bad = workflow("uses: actions/upload-artifact@v7");
    refused(checks::zizmor(&[&bad]), "unpinned");
    let bad = workflow("run: echo ${{ github.event.pull_request.title }}");
    refused(checks::zizmor(&[&bad]), "template-injection");
    refused(checks::shellcheck("bash", "rm $A\n"), "SC2086");

    let action = "name: a\ndescription: a\nruns:\n  using: node23\n  main: a.js\n";
    refused(checks::schema(Kind::GithubAction, &[&written("action.yml", action)]), "node23");
    let pipeline = "a:\n  script: [b]\n  retry:\n    exit_kodes: 10\n";
    refused(checks::schema(Kind::Gitlab, &[&written(".gitlab-ci.yml", pipeline)]), "exit_kodes");
    let pipeline = "steps:\n  - command: a\n    retry: {automatic: [{exit_status: [ten]}]}\n";
    refused(checks::schema(Kind::Buildkite, &[&written(".buildkite/a.yml", pipeline)]), "automatic");
    let pipeline = "version: 2.1\njobs:\n  a:\n    docker: [{image: b}]\n    steps: [{run: {comand: b}}]\n";
    refused(checks::schema(Kind::Circleci, &[&written(".circleci/config.yml", pipeline)]), "comand");
}

#[test]
fn a_snippet_is_found_with_its_line_and_its_platform() {
    let scratch = tempfile::tempdir().unwrap();
    let page = "# A page\n\n```yaml\n# .gitlab-ci.yml\na:\n  script: b\n```\n\n```toml\na = 1\n```\n";
    let found = documents::snippets("docs/A.md", page, scratch.path());
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].place.as_str(), found[0].kind), ("docs/A.md:3", Kind::Gitlab));
    assert_eq!(fs::read_to_string(&found[0].path).unwrap(), "# .gitlab-ci.yml\na:\n  script: b\n");
    let unnamed =
        std::panic::catch_unwind(|| documents::snippets("b", "```yaml\na: 1\n```\n", scratch.path()));
    assert!(unnamed.is_err());
}

/// What an expression of a workflow reads of the action's step.
fn outputs_read(text: &str) -> impl Iterator<Item = &str> {
    text.split("steps.qgjob.outputs.").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn the_action_has_every_input_and_output_that_workflows_use() {
    let action = checks::parsed(&documents::root().join("action/action.yml"));
    let scratch = tempfile::tempdir().unwrap();
    let mut used = 0;
    for document in documents::all(scratch.path()) {
        if document.kind != Kind::GithubWorkflow {
            continue;
        }
        let workflow = checks::parsed(&document.path);
        let jobs = workflow["jobs"].as_object().unwrap().values();
        let steps = jobs.flat_map(|job| job["steps"].as_array().unwrap());
        for step in
            steps.filter(|step| step["uses"].as_str().is_some_and(|uses| uses.contains("/qgjob/action@")))
        {
            used += 1;
            for input in step["with"].as_object().unwrap().keys() {
                assert!(action["inputs"][input].is_object(), "{}: no input {input}", document.place);
            }
        }
        let text = fs::read_to_string(&document.path).unwrap();
        for output in outputs_read(&text) {
            assert!(action["outputs"][output].is_object(), "{}: no output {output}", document.place);
        }
    }
    assert!(used >= 2, "the action is used only {used} times");
    assert_eq!(outputs_read("${{ steps.qgjob.outputs.run-id != '' }}").collect::<Vec<_>>(), ["run-id"]);
}
