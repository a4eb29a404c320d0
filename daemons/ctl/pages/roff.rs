//! A man page in the making: the few requests of man(7) that our pages need.
#![forbid(unsafe_code)]

/// The text of a page, in roff.
#[derive(Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// A page with its title and name.
    pub fn new(name: &str, section: u8, date: &str, about: &str) -> Page {
        let mut page = Page::default();
        // For readers that do not know by themselves that there may be tables.
        page.raw("'\\\" t");
        let version = env!("CARGO_PKG_VERSION");
        let title = name.to_uppercase();
        page.raw(&format!(
            ".TH \"{title}\" {section} \"{date}\" \"ipc-pipeline {version}\" \"ipc-pipeline\""
        ));
        // A terminal has no pages. Old groff thinks so only at the end, and warns of a table that lies across two.
        page.raw(".if n .pl 32000v");
        page.heading("NAME");
        page.raw(&format!("{} \\- {}", plain(name), plain(about)));
        page
    }

    /// The whole page.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A heading of a section.
    pub fn heading(&mut self, text: &str) {
        self.raw(&format!(".SH \"{}\"", inline(text).replace('"', "\\(dq")));
    }

    /// A heading in a section.
    pub fn subheading(&mut self, text: &str) {
        self.raw(&format!(".SS \"{}\"", inline(text).replace('"', "\\(dq")));
    }

    /// A paragraph of marked text.
    pub fn paragraph(&mut self, text: &str) {
        self.gap();
        self.lines(text);
    }

    /// A paragraph begins, unless a heading has made the gap already.
    fn gap(&mut self) {
        if !self.text.trim_end().rsplit('\n').next().is_some_and(|line| line.starts_with(".S")) {
            self.raw(".PP");
        }
    }

    /// Marked text that begins a line of its own, without a gap.
    pub fn lines(&mut self, text: &str) {
        self.raw(&inline(text));
    }

    /// What one looks for, in bold, with what there is to say about it in the lines that follow. `more`: of the same text as
    /// the item before.
    pub fn item(&mut self, tag: &str, more: bool) {
        self.raw(if more { ".TQ" } else { ".TP" });
        self.raw(&inline(tag));
    }

    /// An item of a list.
    pub fn bullet(&mut self, text: &str) {
        self.raw(".IP \\(bu 2");
        self.lines(text);
    }

    /// Lines as they are.
    pub fn example(&mut self, lines: &str) {
        self.gap();
        self.raw(".EX");
        for line in lines.lines() {
            self.raw(&guarded(plain(line)));
        }
        self.raw(".EE");
    }

    /// A table: its rows, the first of which says what the columns are. Of two columns it is a list: a cell with much text
    /// must fit a page, an item need not.
    pub fn table(&mut self, rows: &[Vec<String>]) {
        if rows.iter().all(|row| row.len() == 2) {
            return self.list(rows.get(1..).unwrap_or_default());
        }
        let columns = rows.first().map_or(0, Vec::len);
        let is_wide =
            |column: usize| rows.iter().any(|row| row.get(column).is_some_and(|c| c.len() > NARROW));
        // Columns of longer text share the width; the others are as wide as what they hold.
        let format: Vec<&str> = (0..columns).map(|c| if is_wide(c) { "lx" } else { "l" }).collect();
        self.gap();
        self.raw(&format!(".TS\n{}.", format.join(" ")));
        for row in rows {
            let cell = |(column, text): (usize, &String)| match is_wide(column) {
                true => format!("T{{\n{}\nT}}", inline(text)),
                false => inline(text),
            };
            self.raw(&row.iter().enumerate().map(cell).collect::<Vec<_>>().join("\t"));
        }
        self.raw(".TE");
    }

    fn list(&mut self, rows: &[Vec<String>]) {
        for row in rows {
            if let [name, text] = row.as_slice() {
                self.item(name, false);
                self.lines(text);
            }
        }
    }

    /// The last section: the other pages than this one.
    pub fn see_also(&mut self, own: (&str, u8)) {
        self.heading("SEE ALSO");
        let others = SEE.iter().filter(|page| **page != own);
        let others = others.map(|(name, section)| format!(".BR {} ({section})", plain(name)));
        self.raw(&others.collect::<Vec<_>>().join(" ,\n"));
    }

    fn raw(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}

/// A cell of a table is narrow up to so many bytes.
const NARROW: usize = 20;

/// The pages that name each other.
const SEE: [(&str, u8); 8] = [
    ("ipc-pipeline", 1),
    ("ipc-pipeline.toml", 5),
    ("ipc-pipeline-formats", 5),
    ("ipc-pipeline", 7),
    ("ipc-conv", 8),
    ("ipc-log", 8),
    ("ipc-stat", 8),
    ("ipc-report", 8),
];

/// Text as roff: nothing in it is a request.
fn plain(text: &str) -> String {
    text.replace('\\', "\\(rs").replace('-', "\\-").replace('^', "\\(ha").replace('~', "\\(ti")
}

/// A line that begins with a dot or a quote is text all the same.
fn guarded(line: String) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}

/// Marked text as roff: `code` and **words** in bold, *words* in italics, of [a link](to) the text.
pub fn inline(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['`', '*', '[']) {
        let (before, mark) = rest.split_at(at);
        out += &plain(before);
        let (piece, behind) = marked(mark);
        out += &piece;
        rest = behind;
    }
    out += &plain(rest);
    out.lines().map(|line| guarded(line.trim_start().to_owned())).collect::<Vec<_>>().join("\n")
}

/// The piece that a mark begins, as roff, and what stands behind it; a mark that is none is text.
fn marked(text: &str) -> (String, &str) {
    let pairs = [("`", "`", "B"), ("**", "**", "B"), ("*", "*", "I")];
    for (begin, end, font) in pairs {
        let found = text.strip_prefix(begin).and_then(|inside| inside.split_once(end));
        if let Some((inside, behind)) = found.filter(|(inside, _)| is_marked(inside)) {
            return (format!("\\f{font}{}\\fR", plain(inside)), behind);
        }
    }
    let link = text.strip_prefix('[').and_then(|inside| inside.split_once("]("));
    if let Some((name, (_, behind))) = link.and_then(|(name, to)| Some((name, to.split_once(')')?))) {
        return (plain(name), behind);
    }
    let (mark, behind) = text.split_at(1);
    (plain(mark), behind)
}

/// `2 * w * x` has no marks.
fn is_marked(inside: &str) -> bool {
    !inside.is_empty() && !inside.starts_with(' ') && !inside.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_fonts_and_everything_else_is_text() {
        assert_eq!(inline("a `b-c` **d** *e* f"), "a \\fBb\\-c\\fR \\fBd\\fR \\fIe\\fR f");
        assert_eq!(inline("4096 * (s % n) * 2"), "4096 * (s % n) * 2");
        assert_eq!(inline("[here](a.md), codes[n]"), "here, codes[n]");
        assert_eq!(inline(".x\n'y"), "\\&.x\n\\&'y");
        assert_eq!(inline("\\ ^ ~"), "\\(rs \\(ha \\(ti");
        assert_eq!(inline("`a*b` `c`"), "\\fBa*b\\fR \\fBc\\fR");
    }
}
