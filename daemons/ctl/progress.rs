//! A bar on standard error that says how far a long command has come; nothing unless that is a terminal.
#![forbid(unsafe_code)]

use std::fmt::Write;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// One bar. It goes away with this value, so that what is printed afterwards stands alone.
pub struct Bar(ProgressBar);

impl Bar {
    /// `wanted`: whether to show one at all, if standard error is a terminal.
    pub fn new(doing: &'static str, wanted: bool) -> Bar {
        // indicatif itself is silent where there is no terminal.
        let target = if wanted { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(0), target).with_message(doing);
        let write_rate = |state: &ProgressState, text: &mut dyn Write| {
            let _ = text.write_str(&rate(state.per_sec())); // what cannot be shown is left out
        };
        let template = "{msg} {wide_bar} {percent:>3} %  entry {human_pos}  {rate}  {eta} to go";
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.set_style(style.progress_chars("=> ").with_key("rate", write_rate)),
            Err(_) => return Bar(bar), // then in its own style
        }
        Bar(bar)
    }

    /// For a few long steps, each with a name, instead of entries.
    pub fn of_steps(doing: &'static str) -> Bar {
        let bar = Bar::new(doing, true);
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos} of {len}  {eta} to go") {
            bar.0.set_style(style.progress_chars("=> "));
        }
        bar
    }

    /// What is done now; shown with the next [`Bar::at`].
    pub fn name(&self, doing: String) {
        self.0.set_message(doing);
    }

    /// `done` of `all` entries or steps.
    pub fn at(&self, done: u64, all: u64) {
        self.0.set_length(all.max(done));
        self.0.set_position(done);
    }
}

/// Whole entries a second: nobody reads fractions of one.
fn rate(per_second: f64) -> String {
    format!("{}/s", HumanCount(per_second as u64))
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn a_rate_has_no_fraction() {
        assert_eq!(rate(10_784_200.75), "10,784,200/s");
        assert_eq!(rate(0.0), "0/s");
    }
}
