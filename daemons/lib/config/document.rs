//! The configuration as sections of keys with their places, made of the file and of `--set`, and typed
//! reading from it: what a key may not hold becomes a fault, and reading goes on.
#![forbid(unsafe_code)]

use super::fault::{Fault, Place};
use crate::decimal::Decimal;
use crate::entry::MAX_CHANNELS;
use crate::settings::WINDOWS_MAX;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// The sections, in the order of config/pipeline.toml.
const SECTIONS: [&str; 10] =
    ["instance", "source", "conv", "spool", "edge", "log", "stat", "report", "channel", "window"];
/// The sections that are tables of an array, written as `[[channel]]`, and how many of them there may be.
const REPEATED: [(&str, usize); 2] = [("channel", MAX_CHANNELS), ("window", WINDOWS_MAX)];

/// A value, as far as any key can use it.
#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Int(i128),
    Flag(bool),
    /// A number with a point or an exponent, as it is written.
    Float(String),
    /// Several values.
    List(Vec<Value>),
    /// Of a kind that no key takes: its type and, where short, its text.
    Other(&'static str, String),
}

impl Value {
    fn of(value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Boolean(flag) => Value::Flag(*flag),
            DeValue::Integer(int) => match i128::from_str_radix(int.as_str(), int.radix()) {
                Ok(number) => Value::Int(number),
                Err(_) => Value::Other("integer", format!(" {}", int.as_str())),
            },
            DeValue::Float(float) => Value::Float(float.as_str().to_owned()),
            DeValue::Datetime(date) => Value::Other("date", format!(" {date}")),
            DeValue::Array(array) => {
                // A list in a list is for no key; looking no deeper keeps a deep one from filling the stack.
                let inner = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
                    DeValue::Array(_) => Value::Other("array", String::new()),
                    value => Value::of(value),
                };
                Value::List(array.iter().map(inner).collect())
            }
            DeValue::Table(_) => Value::Other("table", String::new()),
        }
    }

    /// What a fault says was found.
    fn found(&self) -> String {
        match self {
            Value::Text(text) => shorten(&format!("{text:?}")),
            Value::Int(number) => number.to_string(),
            Value::Flag(flag) => flag.to_string(),
            Value::Float(text) => shorten(&format!("float {text}")),
            Value::List(_) => "array".to_owned(),
            Value::Other(kind, text) => shorten(&format!("{kind}{text}")),
        }
    }
}

/// At most 60 characters of `text`, so that a fault stays one line.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// A key as a fault shows it: quoted, as TOML wants it, unless it is a bare one.
fn show_key(key: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !key.is_empty() && key.bytes().all(bare) { shorten(key) } else { shorten(&format!("{key:?}")) }
}

/// A value with the places that faults point at.
#[derive(Clone, Debug)]
struct Item {
    key_place: Place,
    place: Place,
    value: Value,
    /// The bare text of a `--set`: a key that wants text takes it although it looks like a number.
    raw: Option<String>,
}

impl Item {
    fn is_text(&self) -> bool {
        self.raw.is_some() || matches!(self.value, Value::Text(_))
    }
}

/// A good value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Found<T> {
    pub value: T,
    pub place: Place,
}

/// One section. Every key that is asked for becomes a known key; [`Section::finish`] refuses the rest.
#[derive(Clone, Debug, Default)]
pub(super) struct Section {
    name: &'static str,
    /// Its heading.
    place: Place,
    items: BTreeMap<String, Item>,
    known: Vec<&'static str>,
    faults: Vec<Fault>,
}

impl Section {
    /// Where its heading stands; the whole file if it has none.
    pub fn place(&self) -> Place {
        self.place.clone()
    }

    /// Whether the key is there, good or not.
    pub fn has(&self, key: &str) -> bool {
        self.items.contains_key(key)
    }

    /// Whether the key was given by `--set`.
    pub fn is_set(&self, key: &str) -> bool {
        self.items.get(key).is_some_and(|item| item.raw.is_some())
    }

    /// Whether one of these keys has a fault: what is compared with its default would invent another.
    pub fn is_faulty(&self, keys: &[&str]) -> bool {
        self.faults.iter().any(|fault| {
            let key = fault.key.strip_prefix(self.name).and_then(|key| key.strip_prefix('.'));
            key.is_some_and(|key| keys.contains(&key))
        })
    }

    /// Forgets keys that stand in the file: a `--set` has made them meaningless.
    pub fn set_aside(&mut self, keys: &[&str]) {
        self.items.retain(|key, item| item.raw.is_some() || !keys.contains(&key.as_str()));
    }

    /// Makes keys known without reading them.
    pub fn skip(&mut self, keys: &[&'static str]) {
        for key in keys {
            self.items.remove(*key);
            if !self.known.contains(key) {
                self.known.push(key);
            }
        }
    }

    /// Refuses keys that have no sense here, with the reason.
    pub fn refuse(&mut self, keys: &[&'static str], why: &str) {
        for key in keys {
            if let Some(item) = self.items.remove(*key) {
                self.fault(item.key_place, key, why.to_owned());
            }
        }
    }

    /// Adds a fault of one of this section's keys.
    pub fn fault(&mut self, place: Place, key: &str, text: String) {
        self.faults.push(Fault { place, key: format!("{}.{key}", self.name), text });
    }

    fn take<T>(
        &mut self,
        key: &'static str,
        allowed: &str,
        read: impl FnOnce(&Item) -> Option<T>,
    ) -> Option<Found<T>> {
        self.known.push(key);
        let item = self.items.remove(key)?;
        match read(&item) {
            Some(value) => Some(Found { value, place: item.place }),
            None => {
                let text = format!("found {}; allowed: {allowed}", item.value.found());
                self.fault(item.place, key, text);
                None
            }
        }
    }

    /// A text that `read` understands; `allowed` says what that is.
    pub fn text<T>(
        &mut self,
        key: &'static str,
        allowed: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<Found<T>> {
        let is_text = self.items.get(key).is_none_or(Item::is_text);
        let allowed = if is_text { allowed } else { &format!("text in quotes: {allowed}") };
        self.take(key, allowed, |item| match (&item.value, &item.raw) {
            (Value::Text(text), _) | (_, Some(text)) => read(text),
            _ => None,
        })
    }

    /// A list of texts that `read` understands, or a single one; `allowed` says what they are.
    pub fn texts<T>(
        &mut self,
        key: &'static str,
        allowed: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<Found<Vec<T>>> {
        self.list(key, allowed, |value| match value {
            Value::Text(text) => read(text),
            _ => None,
        })
    }

    /// A program and its arguments; `allowed` gives an example.
    pub fn program(&mut self, key: &'static str, allowed: &str) -> Option<Found<Vec<String>>> {
        let words = self.texts(key, allowed, |text| (!text.contains('\0')).then(|| text.to_owned()))?;
        if words.value.first().is_some_and(|program| !program.is_empty()) {
            return Some(words);
        }
        self.fault(words.place, key, format!("found no program; allowed: {allowed}"));
        None
    }

    /// A list of integers within `range`, or a single one.
    pub fn ints<T>(&mut self, key: &'static str, range: RangeInclusive<T>) -> Option<Found<Vec<T>>>
    where
        T: TryFrom<i128> + PartialOrd + std::fmt::Display,
    {
        let allowed = format!("integers from {} to {}, like [1, 2]", range.start(), range.end());
        self.list(key, &allowed, |value| match value {
            Value::Int(number) => T::try_from(*number).ok().filter(|number| range.contains(number)),
            _ => None,
        })
    }

    /// A list of decimal numbers, or a single one, that `read` understands; `allowed` says which those are.
    pub fn decimals<T>(
        &mut self,
        key: &'static str,
        allowed: &str,
        read: impl Fn(&Decimal) -> Option<T>,
    ) -> Option<Found<Vec<T>>> {
        self.list(key, allowed, |value| match value {
            Value::Float(text) => Decimal::read(&text.replace('_', "")).and_then(|number| read(&number)),
            Value::Int(number) => Decimal::read(&number.to_string()).and_then(|number| read(&number)),
            _ => None,
        })
    }

    /// A list of which every value is good and which is not empty.
    fn list<T>(
        &mut self,
        key: &'static str,
        allowed: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Option<Found<Vec<T>>> {
        self.known.push(key);
        let item = self.items.remove(key)?;
        let values = match &item.value {
            Value::List(values) => values.as_slice(),
            single => std::slice::from_ref(single),
        };
        let bad = values.iter().find(|value| read(value).is_none());
        let found = match bad {
            Some(bad) => bad.found(),
            None if values.is_empty() => "an empty list".to_owned(),
            None => {
                let value = values.iter().filter_map(read).collect();
                return Some(Found { value, place: item.place });
            }
        };
        self.fault(item.place, key, format!("found {found}; allowed: {allowed}"));
        None
    }

    /// A text or an integer that is understood; `allowed` says what that is.
    pub fn text_or_int<T>(
        &mut self,
        key: &'static str,
        allowed: &str,
        text: impl FnOnce(&str) -> Option<T>,
        int: impl FnOnce(i128) -> Option<T>,
    ) -> Option<Found<T>> {
        self.take(key, allowed, |item| match &item.value {
            Value::Text(found) => text(found),
            Value::Int(number) => int(*number),
            _ => None,
        })
    }

    /// One of several words.
    pub fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<Found<T>> {
        let allowed: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        self.text(key, &allowed.join(" or "), |text| {
            words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
        })
    }

    /// An integer within `range`.
    pub fn int<T>(&mut self, key: &'static str, range: RangeInclusive<T>) -> Option<Found<T>>
    where
        T: TryFrom<i128> + PartialOrd + std::fmt::Display,
    {
        let allowed = format!("an integer from {} to {}", range.start(), range.end());
        self.int_where(key, &allowed, |number| range.contains(number))
    }

    /// An integer that is `good`; `allowed` says which are.
    pub fn int_where<T: TryFrom<i128>>(
        &mut self,
        key: &'static str,
        allowed: &str,
        good: impl FnOnce(&T) -> bool,
    ) -> Option<Found<T>> {
        self.take(key, allowed, |item| match item.value {
            Value::Int(number) => T::try_from(number).ok().filter(good),
            _ => None,
        })
    }

    /// A decimal number, taken as it is written, that is `good`; `allowed` says which are.
    pub fn decimal(
        &mut self,
        key: &'static str,
        allowed: &str,
        good: impl FnOnce(&Decimal) -> bool,
    ) -> Option<Found<Decimal>> {
        let allowed = format!("a decimal number of at most 21 digits{allowed}");
        self.take(key, &allowed, |item| {
            let text = match (&item.value, &item.raw) {
                (_, Some(raw)) => raw.clone(),
                (Value::Float(text) | Value::Text(text), _) => text.clone(),
                (Value::Int(number), _) => number.to_string(),
                _ => return None,
            };
            Decimal::read(&text.replace('_', "")).filter(good)
        })
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &'static str) -> Option<Found<bool>> {
        self.take(key, "true or false", |item| match item.value {
            Value::Flag(flag) => Some(flag),
            _ => None,
        })
    }

    /// Refuses what nobody asked for and hands over all faults.
    pub fn finish(mut self) -> Vec<Fault> {
        for (key, item) in std::mem::take(&mut self.items) {
            let text = unknown(&format!("unknown key; allowed in [{}]", self.name), &key, &self.known);
            self.fault(item.key_place, &show_key(&key), text);
        }
        self.faults
    }
}

/// The whole configuration before its keys are read.
pub(super) struct Document {
    /// By name, in the order of the file; only those of [`REPEATED`] can be several.
    sections: BTreeMap<&'static str, Vec<Section>>,
    faults: Vec<Fault>,
    /// Lines with a fault of form: what else is wrong with them is a consequence of it.
    torn: Vec<usize>,
}

impl Document {
    /// Takes the text of the file apart, then applies each `section.key=value`, a later one over an earlier.
    pub fn read(text: &str, sets: &[String]) -> Document {
        let mut document = Document { sections: BTreeMap::new(), faults: Vec::new(), torn: Vec::new() };
        let places = Places { text };
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let place = places.at(error.span().map_or(text.len(), |span| span.start));
            document.tear(place, format!("no valid TOML: {}", error.message()));
        }
        for (key, value) in root.get_ref() {
            document.add_section(&places, key, value);
        }
        for (number, set) in sets.iter().enumerate() {
            document.apply(number, set);
        }
        document
    }

    /// The section of this name, empty when it is not there.
    pub fn section(&mut self, name: &'static str) -> Section {
        let found = self.sections.remove(name).and_then(|sections| sections.into_iter().next());
        found.unwrap_or(Section { name, ..Section::default() })
    }

    /// All sections of this repeated name.
    pub fn repeated(&mut self, name: &'static str) -> Vec<Section> {
        self.sections.remove(name).unwrap_or_default()
    }

    /// Whether the file has faults of form, so that what seems missing may only be unreadable.
    pub fn is_torn(&self) -> bool {
        !self.torn.is_empty()
    }

    /// Adds the faults of a section.
    pub fn add(&mut self, faults: Vec<Fault>) {
        let consequence =
            |fault: &Fault| matches!(&fault.place, Place::Line { line, .. } if self.torn.contains(line));
        self.faults.extend(faults.into_iter().filter(|fault| !consequence(fault)));
    }

    /// All faults.
    pub fn into_faults(self) -> Vec<Fault> {
        self.faults
    }

    fn tear(&mut self, place: Place, text: String) {
        if let Place::Line { line, .. } = place {
            self.torn.push(line);
        }
        self.faults.push(Fault { place, key: String::new(), text });
    }

    fn add_section(
        &mut self,
        places: &Places<'_>,
        key: &Spanned<toml::de::DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let place = places.at(key.span().start);
        let Some(name) = SECTIONS.into_iter().find(|name| *name == key.get_ref().as_ref()) else {
            let text = unknown("unknown section; allowed", key.get_ref(), &SECTIONS);
            self.add(vec![Fault { place, key: show_key(key.get_ref()), text }]);
            return;
        };
        match (value.get_ref(), most_of(name)) {
            (DeValue::Table(table), None) => self.add_items(places, name, place, table),
            (DeValue::Array(array), Some(most)) => self.add_repeated(places, name, array, most),
            (other, _) => {
                let text = format!("found {}; allowed: {}", Value::of(other).found(), heading(name));
                self.add(vec![Fault { place, key: name.to_owned(), text }]);
            }
        }
    }

    /// The tables of an array; what is no table, and each table too many, is a fault.
    fn add_repeated(&mut self, places: &Places<'_>, name: &'static str, array: &DeArray<'_>, most: usize) {
        for (element, number) in array.iter().zip(1..) {
            let text = match element.get_ref() {
                DeValue::Table(_) if number > most => {
                    format!("found table number {number}; allowed: at most {most}")
                }
                DeValue::Table(table) => {
                    self.add_items(places, name, places.at(element.span().start), table);
                    continue;
                }
                other => format!("found {}; allowed: {}", Value::of(other).found(), heading(name)),
            };
            self.add(vec![Fault { place: places.at(element.span().start), key: name.to_owned(), text }]);
        }
    }

    fn add_items(&mut self, places: &Places<'_>, name: &'static str, place: Place, table: &DeTable<'_>) {
        let items = table.iter().map(|(key, value)| {
            let item = Item {
                key_place: places.at(key.span().start),
                place: places.at(value.span().start),
                value: Value::of(value.get_ref()),
                raw: None,
            };
            (key.get_ref().to_string(), item)
        });
        let section = Section { name, place, items: items.collect(), ..Section::default() };
        self.sections.entry(name).or_default().push(section);
    }

    fn apply(&mut self, number: usize, set: &str) {
        let place = Place::Set { number, text: set.to_owned() };
        let done = split_set(set).and_then(|(name, key, raw)| {
            let (section, key) = self.section_of_set(name, key)?;
            let value = DeValue::parse(raw)
                .map_or_else(|_| Value::Text(raw.to_owned()), |value| Value::of(value.get_ref()));
            let (key_place, raw) = (place.clone(), Some(raw.to_owned()));
            section.items.insert(key.to_owned(), Item { key_place, place: place.clone(), value, raw });
            Ok(())
        });
        if let Err(text) = done {
            self.faults.push(Fault { place, key: String::new(), text });
        }
    }

    /// The section that a `--set` goes into, and the key there: the only one of this name, or of several the one whose number,
    /// from 0, stands before the key.
    fn section_of_set<'a>(
        &mut self,
        name: &'static str,
        key: &'a str,
    ) -> Result<(&mut Section, &'a str), String> {
        let sections = self.sections.entry(name).or_default();
        if sections.is_empty() {
            sections.push(Section { name, ..Section::default() });
        }
        let count = sections.len();
        let numbered = key.split_once('.').and_then(|(number, key)| Some((number.parse().ok()?, key)));
        let (number, key) = match numbered.filter(|_| most_of(name).is_some()) {
            None if count > 1 => (count, key),
            numbered => numbered.unwrap_or((0, key)),
        };
        let allowed = || match count {
            1 => format!("found one table [[{name}]]; allowed: {name}.{key} or {name}.0.{key}"),
            _ => format!(
                "found {count} tables [[{name}]]; allowed: {name}.0.{key} to {name}.{}.{key}",
                count - 1
            ),
        };
        sections.get_mut(number).map(|section| (section, key)).ok_or_else(allowed)
    }
}

/// `section.key=value` in its three parts.
fn split_set(set: &str) -> Result<(&'static str, &str, &str), String> {
    let parts = set.split_once('=').and_then(|(path, raw)| Some((path.trim().split_once('.')?, raw.trim())));
    let Some(((section, key), raw)) = parts else {
        return Err("found no section.key=value; allowed: for example --set conv.rate=max".to_owned());
    };
    match SECTIONS.into_iter().find(|name| *name == section) {
        Some(name) => Ok((name, key, raw)),
        None => Err(unknown("unknown section; allowed", section, &SECTIONS)),
    }
}

/// How many tables of a repeated section there may be; `None`: it is a single one.
fn most_of(section: &str) -> Option<usize> {
    REPEATED.iter().find(|(name, _)| *name == section).map(|(_, most)| *most)
}

fn heading(section: &str) -> String {
    match most_of(section) {
        Some(_) => format!("a table, written [[{section}]]"),
        None => format!("a table, written [{section}]"),
    }
}

/// Turns offsets into places.
struct Places<'a> {
    text: &'a str,
}

impl Places<'_> {
    fn at(&self, offset: usize) -> Place {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = self.text.get(..end).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        Place::Line { line: before.matches('\n').count() + 1, column }
    }
}

/// The sentence about a word that is none of `known`, with the nearest of them if one is near.
fn unknown(what: &str, word: &str, known: &[&str]) -> String {
    let mut text = format!("{what}: {}", known.join(", "));
    // Two slips in a word, but never more than half of it.
    let near = known.iter().map(|k| (distance(word, k), k)).filter(|(d, k)| *d <= 2 && d * 2 <= k.len());
    if let Some((_, nearest)) = near.min() {
        text += &format!("; did you mean `{nearest}`?");
    }
    text
}

/// Number of characters to insert, remove or change to make `b` of `a` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut left = i + 1;
        let mut next = vec![left];
        for (y, pair) in b.chars().zip(row.windows(2)) {
            if let [diagonal, above] = pair {
                left = (left + 1).min(above + 1).min(diagonal + usize::from(x != y));
                next.push(left);
            }
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, d) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "ab", 2),
            ("polisy", "policy", 1),
            ("rat", "rate", 1),
            ("eg", "ge", 2),
        ] {
            assert_eq!(distance(a, b), d, "{a} {b}");
        }
    }

    #[test]
    fn only_near_words_are_proposed() {
        assert!(unknown("x", "perod", &["period", "rate"]).ends_with("did you mean `period`?"));
        assert_eq!(unknown("x", "to", &["path", "min"]), "x: path, min");
    }

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let places = Places { text: "a\näb\r\n" };
        let line = |line, column| Place::Line { line, column };
        let wanted = [(0, line(1, 1)), (1, line(1, 2)), (2, line(2, 1)), (3, line(2, 1)), (4, line(2, 2))];
        for (offset, place) in wanted {
            assert_eq!(places.at(offset), place, "{offset}");
        }
        assert_eq!(places.at(99), line(3, 1));
    }
}
