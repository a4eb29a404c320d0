//! Our own pages in markdown as man pages: headings, paragraphs, lists, tables and blocks of code, as docs/ uses them.
#![forbid(unsafe_code)]

use super::roff::Page;

/// Behind the name of `page` what a page in markdown says. Its first heading is left out: the page has a name.
pub fn page(mut page: Page, text: &str) -> Page {
    let mut rest = text.lines().skip_while(|line| line.starts_with("# ")).peekable();
    page.heading("DESCRIPTION");
    while let Some(line) = rest.next() {
        if let Some(text) = line.strip_prefix("## ") {
            page.heading(&text.to_uppercase());
        } else if let Some(text) = line.strip_prefix("### ") {
            page.subheading(text);
        } else if line.starts_with("```") {
            let code: Vec<&str> = rest.by_ref().take_while(|line| !line.starts_with("```")).collect();
            page.example(&code.join("\n"));
        } else if line.starts_with('|') {
            let mut rows = vec![cells(line)];
            while let Some(line) = rest.next_if(|line| line.starts_with('|')) {
                rows.push(cells(line));
            }
            rows.retain(|row| !row.iter().all(|cell| cell.chars().all(|c| "-|".contains(c))));
            page.table(&rows);
        } else if !line.is_empty() {
            let mut text = line.to_owned();
            while let Some(line) = rest.next_if(|line| is_text(line)) {
                text += "\n";
                text += line.trim_start();
            }
            match text.strip_prefix("- ") {
                Some(text) => page.bullet(text),
                None => page.paragraph(&text),
            }
        }
    }
    page.see_also(("ipc-pipeline-formats", 5));
    page
}

/// Does this line go on with the text before it?
fn is_text(line: &str) -> bool {
    !(line.is_empty() || ["#", "|", "```", "- "].iter().any(|begin| line.starts_with(begin)))
}

fn cells(line: &str) -> Vec<String> {
    line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_all_its_parts() {
        let text = "# Title\n\nFirst\nsecond.\n\n## Part\n\n| a | b |\n|---|---|\n| c | d |\n\n| a | b | c |\n|---|---|---|\n| d | e | f |\n- one\n  more\n- two\n\n```\n.x\n```\n";
        let text = page(Page::default(), text).text().to_owned();
        let begin = ".SH \"DESCRIPTION\"\nFirst\nsecond.\n.SH \"PART\"\n";
        assert!(text.starts_with(begin), "{text}");
        assert!(text.contains(".TP\nc\nd\n.PP\n.TS\nl l l.\na\tb\tc\nd\te\tf\n.TE\n"), "{text}");
        assert!(text.contains(".IP \\(bu 2\none\nmore\n.IP \\(bu 2\ntwo\n.PP\n.EX\n\\&.x\n.EE\n"), "{text}");
        assert!(!text.contains("Title"), "{text}");
    }
}
