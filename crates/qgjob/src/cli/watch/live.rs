//! The display on a terminal: a head line, one line per job on a device, and above them what is over.

use std::collections::HashMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use qgjob_core::model::job::{self, Conclusion, Status};

use super::story::{Known, News, Story, progress, style_of};
use crate::output::{Output, plain};

/// More jobs than fit on a small terminal are only counted.
const MOST_LINES: usize = 12;

pub struct Live {
    all: MultiProgress,
    head: ProgressBar,
    lines: HashMap<job::Id, ProgressBar>,
    output: Output,
}

impl Live {
    pub fn new(output: Output) -> Self {
        // Results go to stdout; the display must not end up in a file with them.
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let head = all.add(ProgressBar::new_spinner());
        head.set_style(
            ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is constant"),
        );
        head.enable_steady_tick(Duration::from_millis(120));
        Self { all, head, lines: HashMap::new(), output }
    }

    /// Redraws.
    pub fn show(&mut self, story: &Story, now: Timestamp) {
        let count = |status| story.jobs.values().filter(|known| known.status == Some(status)).count();
        let (total, over, running) = (story.jobs.len(), count(Status::Completed), count(Status::Running));
        self.head.set_message(format!(
            "{over} of {total} jobs over, {running} running, {} waiting",
            total - over - running
        ));
        let on_device: Vec<_> = story
            .jobs
            .iter()
            .filter(|(_, known)| known.status == Some(Status::Running))
            .take(MOST_LINES)
            .collect();
        self.lines.retain(|id, line| {
            let stays = on_device.iter().any(|(other, _)| *other == id);
            if !stays {
                line.finish_and_clear();
            }
            stays
        });
        for (id, known) in on_device {
            let line = self.lines.entry(*id).or_insert_with(|| {
                let line = self.all.add(ProgressBar::new_spinner());
                line.set_style(
                    ProgressStyle::with_template("  {wide_msg}").expect("the template is constant"),
                );
                line
            });
            line.set_message(plain(&format!("{}  {}", name(*id, known), progress(known, now))));
        }
    }

    /// Puts a line above the display: ends of tests and jobs, and jobs that are queued again.
    pub fn news(&self, story: &Story, news: &News) {
        let Some((id, known)) = news.job.and_then(|id| story.jobs.get_key_value(&id)) else { return };
        // What a job is doing is shown below; that it begins to wait is what the head line counts.
        let doing = match news.status {
            Status::Running => known.tries == 0,
            _ => known.started.is_none(),
        };
        if doing && news.conclusion.is_none() {
            return;
        }
        let name = name(*id, known);
        let mark = match news.conclusion {
            Some(conclusion) => {
                let style =
                    if self.output.color_messages { style_of(conclusion) } else { Default::default() };
                format!("{style}{}{style:#}", mark(conclusion))
            }
            None => "·".to_owned(),
        };
        self.print(&format!("{mark} {name}  {}", plain(&news.detail)));
    }

    /// Puts a line above the display.
    pub fn print(&self, line: &str) {
        _ = self.all.println(self.output.cut(line));
    }
}

impl Drop for Live {
    /// Takes the display away.
    fn drop(&mut self) {
        self.head.finish_and_clear();
        for line in self.lines.values() {
            line.finish_and_clear();
        }
        _ = self.all.clear();
    }
}

/// A sign for a conclusion.
pub fn mark(conclusion: Conclusion) -> &'static str {
    match conclusion {
        Conclusion::Passed => "✓",
        Conclusion::Failed => "✗",
        Conclusion::Errored => "!",
        Conclusion::TimedOut => "⏱",
        Conclusion::Cancelled => "⊘",
        Conclusion::Skipped => "-",
    }
}

fn name(id: job::Id, known: &Known) -> String {
    if known.test.is_empty() { id.to_string() } else { known.test.clone() }
}
