//! Starting, stopping and touching apps.

use std::time::Instant;

use super::State;
use crate::apk;
use crate::app::{App, Reaction, Variables};
use crate::truth::{AppStart, Tap, is_helper};

/// A tap that moves farther than this is a swipe, in pixels.
const TAP_SLOP: f64 = 32.0;

impl State {
    /// Starts an activity, or brings its running app to the front. False when there is no such package.
    pub(crate) fn start(&mut self, package: &str, activity: &str) -> bool {
        if !self.packages.contains_key(package) {
            return false;
        }
        if is_helper(package) {
            self.start_service(package);
            return true;
        }
        if !self.apps.contains_key(package) {
            let pid = self.pid();
            let activity = apk::full_class(package, activity);
            let known = self.packages.get_mut(package).expect("looked up above");
            let screens = known.screens.clone();
            let app = App::launch(package, &activity, pid, screens, &mut known.variables, Instant::now());
            self.apps.insert(package.to_owned(), app);
            let order = self.truth.next();
            self.note('I', "ActivityManager", &format!("Start proc {pid}:{package} for {activity}"));
            self.truth.app_starts.push(AppStart { order, package: package.to_owned(), activity });
        }
        self.front = Some(package.to_owned());
        true
    }

    pub(crate) fn start_service(&mut self, package: &str) {
        if !self.services.contains_key(package) {
            let pid = self.pid();
            self.services.insert(package.to_owned(), pid);
        }
    }

    /// Ends whatever runs of a package.
    pub(crate) fn stop(&mut self, package: &str) {
        self.apps.remove(package);
        self.services.remove(package);
        if package.starts_with("io.appium.uiautomator2.server") {
            self.end_instrumentation();
        }
        self.leave(package);
    }

    /// Shows the launcher if the package was on the screen.
    pub(crate) fn leave(&mut self, package: &str) {
        if self.front.as_deref() == Some(package) {
            self.front = None;
        }
    }

    /// The app on the screen with its variables, to be changed.
    pub(crate) fn front_app(&mut self) -> Option<(&mut App, &mut Variables)> {
        let package = self.front.as_ref()?;
        Some((self.apps.get_mut(package)?, &mut self.packages.get_mut(package)?.variables))
    }

    /// Component names of what has the focus: package and activity.
    pub(crate) fn focus(&self) -> (String, String) {
        let front = self.front.as_ref().and_then(|package| self.apps.get(package));
        front.map_or_else(
            || ("com.android.launcher3".to_owned(), "com.android.launcher3.Launcher".to_owned()),
            |app| (app.package.clone(), app.activity.clone()),
        )
    }

    /// All processes: name and pid.
    pub(crate) fn processes(&self) -> Vec<(String, u32)> {
        let apps = self.apps.values().map(|app| (app.package.clone(), app.pid));
        let services = self.services.iter().map(|(name, pid)| (name.clone(), *pid));
        let instrumented = self.instrumentation.iter().map(|now| now.process.clone());
        apps.chain(services).chain(instrumented).collect()
    }

    /// Taps the widget at a position of the current screen's list.
    pub(crate) fn tap(&mut self, position: usize) {
        let now = Instant::now();
        let Some((app, variables)) = self.front_app() else { return };
        let Some(shown) = app.shown(variables, now).into_iter().find(|shown| shown.position == position)
        else {
            return;
        };
        let package = app.package.clone();
        let reaction = app.tap(position, variables, now);
        let order = self.truth.next();
        self.truth.taps.push(Tap {
            order,
            package: package.clone(),
            element: shown.widget.id,
            text: shown.text,
        });
        if reaction == Reaction::Crashed {
            self.crash(&package);
        }
    }

    /// Taps whatever is at a place of the screen, in pixels.
    pub(crate) fn tap_at(&mut self, x: f64, y: f64) {
        let now = Instant::now();
        let Some((app, variables)) = self.front_app() else { return };
        let shown = app.shown(variables, now);
        let hit = shown.iter().find(|shown| crate::ui::bounds(shown.position).contains(x, y));
        if let Some(position) = hit.map(|shown| shown.position) {
            self.tap(position);
        }
    }

    /// A finger that went down at one place and up at another. Only a tap does anything: nothing here scrolls.
    pub(crate) fn touch(&mut self, down: (f64, f64), up: (f64, f64)) {
        if (down.0 - up.0).hypot(down.1 - up.1) <= TAP_SLOP {
            self.tap_at(down.0, down.1);
        }
    }

    pub(crate) fn type_text(&mut self, text: &str) {
        if let Some((app, variables)) = self.front_app() {
            app.type_at_focus(text, variables);
        }
    }

    /// Presses a key by Android's number for it. Only HOME and BACK do anything.
    pub(crate) fn press(&mut self, key: u32) {
        const HOME: u32 = 3;
        const BACK: u32 = 4;
        let stays = match key {
            HOME => false,
            BACK => self.front_app().is_some_and(|(app, _)| app.back(Instant::now())),
            _ => true,
        };
        if !stays {
            self.front = None;
        }
    }
}
