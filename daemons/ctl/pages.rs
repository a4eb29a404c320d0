//! `ipc-pipeline pages`: man pages and completions, made from the command lines, from the configuration that is shipped and
//! from the page of formats, so that they cannot say anything else.
#![forbid(unsafe_code)]

mod config;
mod markdown;
mod roff;

use std::fs;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use ipc_pipeline::args;
use ipc_pipeline::daemon::Failure;
use ipc_pipeline::names::Role;
use jiff::Timestamp;

use self::roff::Page;

const FORMATS: &str = include_str!("../../docs/formats.md");
const OVERVIEW: &str = include_str!("../../packaging/man/ipc-pipeline.7");

/// Where a shell looks for the completions of a program, below the directory of the pages.
const SHELLS: [(Shell, &str); 3] = [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")];

/// Writes them all below `dir`: `man1` to `man8`, `bash`, `zsh`, `fish`. The pages are of the day that SOURCE_DATE_EPOCH says,
/// else of today.
pub fn write(dir: &Path, tool: Command) -> Result<u8, Failure> {
    let date = date()?;
    let mut commands = vec![(shown(&tool), 1)];
    commands.extend(Role::ALL.map(|role| (args::command(role), 8)));
    for (command, section) in commands {
        complete(dir, &command)?;
        let mut command = command.disable_help_subcommand(true);
        command.build();
        describe(dir, &command, section, &date)?;
    }
    let formats = Page::new("ipc-pipeline-formats", 5, &date, "names, files and bytes of ipc-pipeline");
    put(&dir.join("man5/ipc-pipeline-formats.5"), markdown::page(formats, FORMATS).text())?;
    put(&dir.join("man5/ipc-pipeline.toml.5"), config::page(&date).text())?;
    let overview = OVERVIEW.replace("@DATE@", &date).replace("@VERSION@", env!("CARGO_PKG_VERSION"));
    put(&dir.join("man7/ipc-pipeline.7"), &overview)?;
    Ok(0)
}

/// The command without what is hidden: completions would offer that.
fn shown(tool: &Command) -> Command {
    let below = tool.get_subcommands().filter(|below| !below.is_hide_set());
    Command::new("ipc-pipeline")
        .version(env!("CARGO_PKG_VERSION"))
        .about(tool.get_about().cloned().unwrap_or_default())
        .after_help(tool.get_after_help().cloned().unwrap_or_default())
        .subcommand_required(true)
        .subcommands(below.cloned())
}

/// The day of the pages, UTC.
fn date() -> Result<String, Failure> {
    let day = |time: Timestamp| time.strftime("%Y-%m-%d").to_string();
    let Some(epoch) = std::env::var_os("SOURCE_DATE_EPOCH") else {
        return Ok(day(Timestamp::now()));
    };
    let time = epoch.to_str().and_then(|text| text.parse().ok()).and_then(|s| Timestamp::from_second(s).ok());
    time.map(day).ok_or_else(|| {
        let found = epoch.display();
        Failure::system(format!("SOURCE_DATE_EPOCH is {found:?}; it must be seconds since 1970, or not set"))
    })
}

fn complete(dir: &Path, command: &Command) -> Result<(), Failure> {
    for (shell, folder) in SHELLS {
        let (mut command, mut text) = (command.clone(), Vec::new());
        let program = command.get_name().to_owned();
        clap_complete::generate(shell, &mut command, &program, &mut text);
        // The one file that a shell loads by itself has its own name in each of them.
        let file = match shell {
            Shell::Zsh => format!("_{program}"),
            Shell::Fish => format!("{program}.fish"),
            _ => program.clone(),
        };
        let text = mended(shell, command.get_name(), &String::from_utf8_lossy(&text));
        put(&dir.join(folder).join(file), &text)?;
    }
    Ok(())
}

/// clap_complete writes the name of a program with a hyphen in two ways for bash, and then completes none of its commands
/// (clap-rs/clap issue 6421).
fn mended(shell: Shell, program: &str, text: &str) -> String {
    match shell {
        Shell::Bash => text.replace(&program.replace('-', "__subcmd__"), &program.replace('-', "__")),
        _ => text.to_owned(),
    }
}

/// A page for a command, and one for each of its subcommands.
fn describe(dir: &Path, command: &Command, section: u8, date: &str) -> Result<(), Failure> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let text = page_of(command, section, date)
        .map_err(|e| Failure::system(format!("cannot write the man page of {name}: {e}")))?;
    put(&dir.join(format!("man{section}/{name}.{section}")), &text)?;
    for below in command.get_subcommands() {
        describe(dir, below, section, date)?;
    }
    Ok(())
}

fn page_of(command: &Command, section: u8, date: &str) -> std::io::Result<String> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let version = concat!("ipc-pipeline ", env!("CARGO_PKG_VERSION"));
    let mut text = Vec::new();
    let man = Man::new(command.clone()).title(name.to_uppercase()).section(section.to_string());
    let man = man.date(date).source(version).manual("ipc-pipeline");
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    let mut rest = Page::default();
    if let Some(after) = command.get_after_help() {
        after_help(&mut rest, &after.to_string());
    }
    rest.see_also((&name, section));
    // Two line breaks around an empty line are one gap.
    let text = String::from_utf8_lossy(&text).replace("\n.br\n\n.br\n", "\n.sp\n");
    Ok(text + rest.text())
}

/// What stands behind the options in --help: examples, exit codes, and what else is to be known.
fn after_help(page: &mut Page, text: &str) {
    for part in text.split("\n\n") {
        let (head, body) = part.split_once('\n').unwrap_or((part, ""));
        if head.starts_with("Example") {
            page.heading("EXAMPLES");
            page.example(body);
            continue;
        }
        let (notes, codes) = part.split_once("Exit codes: ").map_or((part, ""), |(n, c)| (n.trim_end(), c));
        if !notes.is_empty() {
            page.heading("NOTES");
            page.paragraph(notes);
        }
        if !codes.is_empty() {
            page.heading("EXIT STATUS");
            page.paragraph(codes);
        }
    }
}

fn put(path: &Path, text: &str) -> Result<(), Failure> {
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir)
        .and_then(|()| fs::write(path, text))
        .map_err(|e| Failure::system(format!("cannot write {}: {e}", path.display())))
}
