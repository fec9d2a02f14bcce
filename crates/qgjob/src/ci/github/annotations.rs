//! Which annotations are shown: the runner drops all but the first 10 errors and the first 10 warnings of a step, so what
//! matters most comes first and the last one counts the rest.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use qgjob_core::model::test_result::TestOutcome;

use super::commands::{Annotation, Level};
use crate::report::{Report, error_of, titled};

/// Of each level the runner shows so many.
const MOST: usize = 10;

/// At most ten of each level. Each file's first comes before any file's second: a file that fails as a whole does not hide
/// the others. `where_all` says where all can be read.
pub fn ranked(found: Vec<Annotation>, where_all: &str) -> Vec<Annotation> {
    let mut shown = Vec::new();
    for level in [Level::Error, Level::Warning] {
        let of_level = in_turns(found.iter().filter(|one| one.level == level));
        if of_level.len() <= MOST {
            shown.extend(of_level);
            continue;
        }
        let more = of_level.len() - (MOST - 1);
        shown.extend(of_level.into_iter().take(MOST - 1));
        let what = if level == Level::Error { "failures" } else { "flaky tests" };
        shown.push(Annotation {
            level,
            file: None,
            line: None,
            title: format!("{more} more {what}"),
            message: format!("{more} more {what}: {where_all}"),
        });
    }
    shown
}

/// What there is to say of a run: its failed tests, its jobs in trouble, its flaky tests. `place` finds a file of the project
/// in the repository.
pub fn found(report: &Report, place: impl Fn(&str) -> Option<String>) -> Vec<Annotation> {
    let mut found = Vec::new();
    for (level, outcome) in [(Level::Error, TestOutcome::Unexpected), (Level::Warning, TestOutcome::Flaky)] {
        for (job, test) in report.tests_that(outcome) {
            let what = if level == Level::Error { "" } else { "flaky: " };
            let again = if job.is_none() { ", in an earlier run" } else { "" };
            let error = error_of(test).unwrap_or("no error was reported");
            found.push(Annotation {
                level,
                file: place(&test.file),
                line: Some(test.line),
                title: format!("{what}{}", titled(test)),
                message: format!("{error}\n\non {} ({}){again}", test.device_name, test.job_id),
            });
        }
    }
    for (job, _) in report.remarks().into_iter().filter(|(_, remark)| remark.is_trouble()) {
        let view = &job.job.job;
        let tell = format!("qgjob explain {} tells more", view.id);
        found.push(Annotation {
            level: Level::Error,
            file: place(view.spec.test.as_str()),
            line: Some(1),
            title: format!(
                "{}: {}",
                view.spec.named(),
                view.conclusion.map_or("not over", |end| end.as_str())
            ),
            message: format!("{}\n\n{tell}", job.ending()),
        });
    }
    found
}

fn in_turns<'a>(found: impl Iterator<Item = &'a Annotation>) -> Vec<Annotation> {
    let mut files: BTreeMap<Option<&str>, Vec<&Annotation>> = BTreeMap::new();
    for one in found {
        files.entry(one.file.as_deref()).or_default().push(one);
    }
    for of_file in files.values_mut() {
        of_file.sort_by_key(|one| one.line);
    }
    let longest = files.values().map(Vec::len).max().unwrap_or(0);
    let turns = (0..longest).flat_map(|turn| files.values().filter_map(move |of_file| of_file.get(turn)));
    turns.map(|one| (*one).clone()).collect()
}

/// The path of a file of the project, seen from the repository's folder; none when it is not below it. Both folders are
/// absolute and without links.
pub fn in_repository(repository: &Path, project: &Path, file: &str) -> Option<String> {
    let path = Path::new(file);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let below = project.strip_prefix(repository).ok().filter(|_| plain && !file.is_empty())?;
    below.join(path).to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(level: Level, file: &str, line: u32) -> Annotation {
        Annotation {
            level,
            file: Some(file.into()),
            line: Some(line),
            title: "t".into(),
            message: "m".into(),
        }
    }

    fn places(annotations: &[Annotation]) -> Vec<String> {
        let place = |one: &Annotation| match &one.file {
            Some(file) => format!("{file}:{}", one.line.unwrap()),
            None => one.title.clone(),
        };
        annotations.iter().map(place).collect()
    }

    #[test]
    fn every_file_has_its_first_before_any_has_its_second() {
        let found = ["b:9", "a:7", "a:3", "a:5", "c:1", "b:2"]
            .map(|place| place.split_once(':').unwrap())
            .map(|(file, line)| one(Level::Error, file, line.parse().unwrap()));
        assert_eq!(places(&ranked(found.to_vec(), "x")), ["a:3", "b:2", "c:1", "a:5", "b:9", "a:7"]);
    }

    #[test]
    fn ten_are_shown_and_the_tenth_counts_when_there_are_more() {
        for (errors, shown, last) in [
            (0, 0, None),
            (10, 10, None),
            (11, 10, Some("2 more failures")),
            (500, 10, Some("491 more failures")),
        ] {
            let found: Vec<_> = (1..=errors).map(|line| one(Level::Error, "a", line)).collect();
            let ranked = ranked(found, "the summary");
            assert_eq!(ranked.len(), shown, "{errors}");
            if let Some(last) = last {
                assert_eq!(ranked[9].title, last);
                assert!(ranked[9].message.contains("the summary"));
            }
        }
    }

    #[test]
    fn warnings_have_ten_of_their_own_and_come_last() {
        let mut found: Vec<_> = (1..=12).map(|line| one(Level::Warning, "a", line)).collect();
        found.extend((1..=12).map(|line| one(Level::Error, "b", line)));
        let ranked = ranked(found, "");
        let levels: Vec<_> = ranked.iter().map(|one| one.level).collect();
        assert_eq!(levels, [[Level::Error; 10], [Level::Warning; 10]].concat());
        assert_eq!(ranked[19].title, "3 more flaky tests");
    }

    #[test]
    fn files_are_named_from_the_repository() {
        let at = |project: &str, file| in_repository(Path::new("/w/repo"), Path::new(project), file);
        assert_eq!(at("/w/repo", "tests/a.spec.js").unwrap(), "tests/a.spec.js");
        assert_eq!(at("/w/repo/apps/e2e", "tests/a.spec.js").unwrap(), "apps/e2e/tests/a.spec.js");
        for (project, file) in
            [("/w/other", "a.js"), ("/w/repo", "../a.js"), ("/w/repo", "/etc/passwd"), ("/w/repo", "")]
        {
            assert_eq!(at(project, file), None, "{project} {file}");
        }
    }
}
