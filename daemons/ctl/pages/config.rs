//! ipc-pipeline.toml(5) from the configuration that is shipped: its comments say what each key is.
#![forbid(unsafe_code)]

use super::roff::Page;

const SHIPPED: &str = include_str!("../../../config/pipeline.toml");

const INTRO: [&str; 2] = [
    "The configuration of a pipeline, in TOML. Each of the four daemons reads it when it starts. Unknown keys are refused, and all \
     faults are said at once, also by `ipc-pipeline check`.",
    "Pipelines of the machine have theirs in */etc/ipc-pipeline*; all others in the file that `--config` names, or none: then all \
     keys have their defaults.",
];
const FILES: [(&str, &str); 3] = [
    ("/etc/ipc-pipeline/pipeline.toml", "of `ipc-pipeline.target`"),
    ("/etc/ipc-pipeline/NAME.toml", "of `ipc-pipeline@NAME.target`"),
    ("/usr/share/doc/ipc-pipeline/examples", "configurations to begin with"),
];

/// What a line of the file is.
#[derive(Debug, PartialEq)]
enum Line<'a> {
    Blank,
    /// A table with its brackets.
    Table(&'a str),
    Key {
        name: &'a str,
        value: &'a str,
        /// Else it has none, and the value is an example.
        is_default: bool,
    },
    Comment(&'a str),
}

/// The page.
pub fn page(date: &str) -> Page {
    let mut page = Page::new("ipc-pipeline.toml", 5, date, "configuration of a measurement pipeline");
    page.heading("DESCRIPTION");
    INTRO.iter().for_each(|text| page.paragraph(text));
    let mut keys = Keys { page, table: String::new(), comment: String::new(), keys: Vec::new() };
    SHIPPED.lines().for_each(|line| keys.take(&read(line)));
    keys.say();
    let mut page = keys.page;
    page.heading("FILES");
    for (path, what) in FILES {
        page.item(&format!("*{path}*"), false);
        page.lines(what);
    }
    page.see_also(("ipc-pipeline.toml", 5));
    page
}

/// The keys as they come. In the file the text stands before its keys, on the page behind them.
struct Keys {
    page: Page,
    table: String,
    comment: String,
    /// Those that the comment is about, as they stand on the page.
    keys: Vec<String>,
}

impl Keys {
    fn take(&mut self, line: &Line) {
        match line {
            Line::Key { name, value, is_default } => {
                let value = if *is_default { format!("= {value}") } else { format!("(for example {value})") };
                self.keys.push(format!("`{}.{name}` {value}", self.table));
            }
            Line::Table(name) => {
                let about = std::mem::take(&mut self.comment);
                self.page.heading(name);
                self.table = name.trim_matches(['[', ']']).to_owned();
                self.comment = about;
                self.say();
            }
            Line::Comment(text) => {
                if !self.keys.is_empty() {
                    self.say();
                }
                self.comment += text;
                self.comment += "\n";
            }
            // What stands alone before a table is about the table.
            Line::Blank if self.keys.is_empty() && !self.table.is_empty() => {}
            Line::Blank => self.say(),
        }
    }

    /// What has come so far: keys with their text, or a paragraph.
    fn say(&mut self) {
        let (text, keys) = (std::mem::take(&mut self.comment), std::mem::take(&mut self.keys));
        for (i, key) in keys.iter().enumerate() {
            self.page.item(key, i > 0);
        }
        match text.trim_end() {
            "" => {}
            text if keys.is_empty() => self.page.paragraph(text),
            text => self.page.lines(text),
        }
    }
}

fn read(line: &str) -> Line<'_> {
    let bare = line.strip_prefix("# ").unwrap_or(line);
    if line.is_empty() {
        return Line::Blank;
    }
    if bare.starts_with('[') && bare.ends_with(']') {
        return Line::Table(bare);
    }
    let is_name = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    match bare.split_once(" = ").filter(|(name, _)| is_name(name)) {
        Some((name, value)) => Line::Key { name, value, is_default: !line.starts_with('#') },
        None => Line::Comment(bare.trim_start_matches('#')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_they_look_like() {
        assert_eq!(read(""), Line::Blank);
        assert_eq!(read("[conv]"), Line::Table("[conv]"));
        assert_eq!(read("# [[window]]"), Line::Table("[[window]]"));
        assert_eq!(read("min = 0"), Line::Key { name: "min", value: "0", is_default: true });
        assert_eq!(read("# seed = 1"), Line::Key { name: "seed", value: "1", is_default: false });
        assert_eq!(read("# Physical value = (a)"), Line::Comment("Physical value = (a)"));
    }
}
