//! The messages with an identity: the table in daemons/lib/messages.rs, the code that says them, and the catalog that
//! `journalctl -x` reads, all of the same ids and fields.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ipc_pipeline::messages::Message;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// An entry of the catalog: its header lines by name, and its text.
struct Entry {
    header: BTreeMap<String, String>,
    text: String,
}

/// The catalog as systemd reads it (catalog.c): `-- ID` begins an entry, an empty line its text, `#` a comment.
fn catalog() -> BTreeMap<String, Entry> {
    let text = fs::read_to_string(root().join("packaging/ipc-pipeline.catalog")).unwrap();
    let mut entries = BTreeMap::new();
    for part in format!("\n{text}").split("\n-- ").skip(1) {
        let part: Vec<&str> = part.lines().filter(|line| !line.starts_with('#')).collect();
        let (id, rest) = part.split_first().unwrap();
        let empty = rest.iter().position(|line| line.is_empty()).unwrap();
        let header = rest[..empty].iter().map(|line| line.split_once(": ").unwrap());
        let header = header.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let entry = Entry { header, text: rest[empty + 1..].join("\n").trim().to_owned() };
        assert!(entries.insert((*id).to_owned(), entry).is_none(), "{id} twice");
    }
    entries
}

/// The code of the daemons, without this table and without tests.
fn code() -> String {
    let mut folders: Vec<PathBuf> = vec![root().join("daemons")];
    let mut code = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("messages.rs") && !path.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                code += text.split("#[cfg(test)]").next().unwrap();
            }
        }
    }
    code
}

/// The fields that an entry names between `@`.
fn fields_of(entry: &Entry) -> BTreeSet<String> {
    let subject = entry.header.get("Subject").cloned().unwrap_or_default();
    let text = format!("{subject}\n{}", entry.text);
    let names = text.split('@').filter(|part| part.len() > 1);
    names.filter(|part| part.chars().all(|c| c.is_ascii_uppercase() || c == '_')).map(str::to_owned).collect()
}

/// Keys that the calls with this message carry, as fields.
fn keys_of(message: Message, code: &str) -> BTreeSet<String> {
    let name = format!("Message::{message:?}");
    let mut keys = BTreeSet::new();
    for call in code.split("log::").skip(1).filter_map(|call| call.split_once(';')).map(|(head, _)| head) {
        if call.split([',', ' ', '(', '\n']).any(|word| word == name) {
            let pairs = call.split_once('(').map_or("", |(_, pairs)| pairs).split(',');
            let names = pairs.map(|pair| pair.split('=').next().unwrap_or_default().trim());
            keys.extend(names.map(|key| format!("IPC_PIPELINE_{}", key.to_uppercase())));
        }
    }
    keys
}

#[test]
fn the_catalog_explains_exactly_the_messages_of_the_table() {
    let catalog = catalog();
    let known: BTreeSet<&str> = catalog.keys().map(String::as_str).collect();
    let table: BTreeSet<&str> = Message::ALL.iter().map(|message| message.id()).collect();
    assert_eq!(known, table);
    for message in Message::ALL {
        let entry = &catalog[message.id()];
        assert_eq!(entry.header["Defined-By"], "ipc-pipeline", "{message:?}");
        assert_eq!(entry.header["Documentation"], "man:ipc-pipeline(7)", "{message:?}");
        assert!(entry.header["Subject"].len() > 10, "{message:?}");
        // A cause, and a remedy of its own.
        assert!(entry.text.split("\n\n").count() == 2, "{message:?}: {}", entry.text);
    }
}

#[test]
fn every_message_of_the_table_is_said_somewhere() {
    let code = code();
    let is_said = |message: &&Message| {
        let name = format!("Message::{message:?}");
        code.match_indices(&name)
            .any(|(at, _)| !code[at + name.len()..].starts_with(|c: char| c.is_alphanumeric()))
    };
    let unsaid: Vec<&Message> = Message::ALL.iter().filter(|message| !is_said(message)).collect();
    assert!(unsaid.is_empty(), "nobody says {unsaid:?}");
}

/// A field that no message carries would be shown as its bare name.
#[test]
fn the_catalog_names_only_fields_that_the_messages_carry() {
    let (catalog, code) = (catalog(), code());
    let of_every_message = ["SYSLOG_IDENTIFIER", "IPC_PIPELINE_INSTANCE"];
    for message in Message::ALL {
        let own = match message {
            // Their fields are not put together by the macros of the log.
            Message::Line | Message::MessagesLost => {
                let names = code.split(['"', '(']).filter(|n| !n.is_empty());
                names.map(|name| format!("IPC_PIPELINE_{name}")).collect()
            }
            // Said by `tell_of_death`, which chooses between two, and by `Failure::say`.
            Message::CutShort => ["PID", "SILENT_MS"].map(|key| format!("IPC_PIPELINE_{key}")).into(),
            Message::ObjectGone | Message::SystemRefused => {
                BTreeSet::from(["IPC_PIPELINE_EXIT_CODE".to_owned()])
            }
            _ => keys_of(*message, &code),
        };
        let mut missing = fields_of(&catalog[message.id()]);
        missing.retain(|name| !own.contains(name) && !of_every_message.contains(&name.as_str()));
        assert!(missing.is_empty(), "{message:?}: no call carries {missing:?}, only {own:?}");
    }
}
