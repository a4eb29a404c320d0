//! A bar on standard error that says how far a long command has come; nothing unless that is a terminal.
#![forbid(unsafe_code)]

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// One bar. It goes away with this value, so that what is printed afterwards stands alone.
pub struct Bar(ProgressBar);

impl Bar {
    /// `wanted`: whether to show one at all, if standard error is a terminal.
    pub fn new(doing: &'static str, wanted: bool) -> Bar {
        // indicatif itself is silent where there is no terminal.
        let target = if wanted { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(0), target).with_message(doing);
        let template = "{msg} {wide_bar} {percent:>3} %  entry {human_pos}  {per_sec}  {eta} to go";
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.set_style(style.progress_chars("=> ")),
            Err(_) => return Bar(bar), // then in its own style
        }
        Bar(bar)
    }

    /// `done` of `all` entries.
    pub fn at(&self, done: u64, all: u64) {
        self.0.set_length(all.max(done));
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
