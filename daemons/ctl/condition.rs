//! The small language of `--where`: comparisons of value, channel, seq and t, joined by and, or, not, and brackets.
//!
//! Everything is exact. Because the physical value rises or falls with the code, a comparison of values is, for each
//! channel, a range of codes: found once, with big integers; after that each sample costs two comparisons of integers.
#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::ops::RangeInclusive;

use ipc_pipeline::decimal::Decimal;
use ipc_pipeline::entry::{Entry, MAX_CHANNELS};
use ipc_pipeline::exact::Conversion;
use ipc_pipeline::header::ChannelRow;

use crate::moment;

/// Brackets and `not` may be nested so deep.
const DEPTH_MAX: usize = 50;

/// A condition that a sample meets or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// All of these.
    All(Vec<Condition>),
    /// One of these or more.
    Any(Vec<Condition>),
    /// Not this.
    Not(Box<Condition>),
    /// The code is one of these, by channel.
    Code(Vec<RangeInclusive<i64>>),
    /// The channel is one of these.
    Channel(RangeInclusive<i128>),
    /// The seq is one of these.
    Seq(RangeInclusive<i128>),
    /// The time of day, ns since 1970, is one of these; an unknown one is not.
    Time(RangeInclusive<i128>),
}

impl Condition {
    /// Does the sample, taken at `wall_ns`, meet the condition?
    pub fn holds(&self, sample: &Entry, wall_ns: Option<i128>) -> bool {
        match self {
            Condition::All(all) => all.iter().all(|c| c.holds(sample, wall_ns)),
            Condition::Any(any) => any.iter().any(|c| c.holds(sample, wall_ns)),
            Condition::Not(inner) => !inner.holds(sample, wall_ns),
            Condition::Code(ranges) => {
                ranges.get(sample.channel as usize).is_some_and(|codes| codes.contains(&sample.value.into()))
            }
            Condition::Channel(numbers) => numbers.contains(&sample.channel.into()),
            Condition::Seq(seqs) => seqs.contains(&sample.seq.into()),
            Condition::Time(times) => wall_ns.is_some_and(|wall_ns| times.contains(&wall_ns)),
        }
    }

    /// The condition in `text`; `raw`: `value` means the code, not the physical value.
    ///
    /// # Errors
    /// A sentence that says what is wrong, where, and what is allowed.
    pub fn parse(text: &str, raw: bool, channels: &[ChannelRow]) -> Result<Condition, String> {
        let tokens = tokens(text).map_err(|e| format!("--where {text:?}: {e}"))?;
        let mut parser = Parser { tokens: &tokens, raw, channels, depth: 0 };
        let parsed = parser.any().and_then(|condition| match parser.tokens.first() {
            None => Ok(condition),
            Some(token) => Err(token.unexpected("`and`, `or` or the end")),
        });
        parsed.map_err(|e| format!("--where {text:?}: {e}; allowed: {ALLOWED}"))
    }
}

const ALLOWED: &str = "comparisons (< <= = != >= >) of value, channel, seq or t, joined by and, or, not and ( ), \
                       as in 'value > 900 and not channel = 2'";

/// The number of the channel with this name or number.
///
/// # Errors
/// A sentence that says which channels there are.
pub fn channel_number(text: &str, channels: &[ChannelRow]) -> Result<u16, String> {
    let named = channels.iter().position(|row| row.name == text);
    let number = named.or_else(|| text.parse().ok().filter(|n| *n < channels.len()));
    number.and_then(|n| u16::try_from(n).ok()).ok_or_else(|| {
        let names: Vec<String> =
            channels.iter().enumerate().map(|(i, c)| format!("{i} {}", c.name)).collect();
        format!("there is no channel {text:?}; the record has: {}", names.join(", "))
    })
}

/// A word of the text, and at which character it begins, from 1.
struct Token {
    at: usize,
    text: String,
    quoted: bool,
}

impl Token {
    fn is(&self, word: &str) -> bool {
        !self.quoted && self.text.eq_ignore_ascii_case(word)
    }

    fn unexpected(&self, wanted: &str) -> String {
        format!("at character {}: found {:?} where {wanted} was expected", self.at, self.text)
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let symbol = |c: char| "<>=!()".contains(c);
    let mut tokens = Vec::new();
    let mut rest = text.char_indices().zip(1..).map(|((_, c), at)| (c, at)).peekable();
    while let Some((c, at)) = rest.next() {
        let mut token = Token { at, text: c.to_string(), quoted: false };
        let mut take_while = |token: &mut Token, wanted: &dyn Fn(char) -> bool| {
            while let Some((c, _)) = rest.next_if(|(c, _)| wanted(*c)) {
                token.text.push(c);
            }
        };
        match c {
            c if c.is_whitespace() => continue,
            '"' | '\'' => {
                token.text.clear();
                token.quoted = true;
                take_while(&mut token, &|other| other != c);
                if rest.next().is_none() {
                    return Err(format!("at character {at}: the quotation mark has no second one"));
                }
            }
            '(' | ')' => {}
            c if symbol(c) => take_while(&mut token, &|c| symbol(c) && c != '(' && c != ')'),
            _ => take_while(&mut token, &|c| !symbol(c) && !c.is_whitespace() && c != '"' && c != '\''),
        }
        tokens.push(token);
    }
    Ok(tokens)
}

struct Parser<'a> {
    tokens: &'a [Token],
    raw: bool,
    channels: &'a [ChannelRow],
    depth: usize,
}

impl<'a> Parser<'a> {
    fn next(&mut self, wanted: &str) -> Result<&'a Token, String> {
        let (first, rest) =
            self.tokens.split_first().ok_or_else(|| format!("it ends where {wanted} was expected"))?;
        self.tokens = rest;
        Ok(first)
    }

    /// Goes on behind this word if it stands next.
    fn skip(&mut self, word: &str) -> bool {
        let found = self.tokens.first().is_some_and(|token| token.is(word));
        if found {
            self.tokens = self.tokens.get(1..).unwrap_or_default();
        }
        found
    }

    fn any(&mut self) -> Result<Condition, String> {
        let mut any = vec![self.all()?];
        while self.skip("or") {
            any.push(self.all()?);
        }
        Ok(alone_or(any, Condition::Any))
    }

    fn all(&mut self) -> Result<Condition, String> {
        let mut all = vec![self.one()?];
        while self.skip("and") {
            all.push(self.one()?);
        }
        Ok(alone_or(all, Condition::All))
    }

    fn one(&mut self) -> Result<Condition, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("it is nested deeper than {DEPTH_MAX} times"));
        }
        let condition = if self.skip("not") {
            Condition::Not(Box::new(self.one()?))
        } else if self.skip("(") {
            let inner = self.any()?;
            let end = self.next("`)`")?;
            if !end.is(")") {
                return Err(end.unexpected("`)`"));
            }
            inner
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(condition)
    }

    fn comparison(&mut self) -> Result<Condition, String> {
        let field = self.next("value, channel, seq or t")?;
        if !["value", "channel", "seq", "t"].iter().any(|name| field.is(name)) {
            return Err(field.unexpected("value, channel, seq or t"));
        }
        let sign = self.next("a comparison")?;
        let found =
            SIGNS.iter().find(|(text, ..)| sign.is(text)).map(|(_, wanted, negated)| (wanted, negated));
        let (wanted, negated) = found.ok_or_else(|| sign.unexpected("one of < <= = != >= >"))?;
        let limit = self.next("what to compare with")?;
        let condition = if field.is("value") {
            Condition::Code(self.codes(wanted, limit)?)
        } else if field.is("channel") {
            let number = channel_number(&limit.text, self.channels)
                .map_err(|e| format!("at character {}: {e}", limit.at))?;
            Condition::Channel(numbers(wanted, number.into()))
        } else if field.is("seq") {
            let seq: u64 = limit.text.parse().map_err(|_| limit.unexpected("a whole number"))?;
            Condition::Seq(numbers(wanted, seq.into()))
        } else {
            Condition::Time(numbers(
                wanted,
                moment::parse(&limit.text).map_err(|_| limit.unexpected(moment::FORMS))?,
            ))
        };
        Ok(if *negated { Condition::Not(Box::new(condition)) } else { condition })
    }

    /// The codes of each channel whose values stand in one of the wanted orders to the limit.
    fn codes(&self, wanted: &[Ordering], limit: &Token) -> Result<Vec<RangeInclusive<i64>>, String> {
        let limit = Decimal::read(&limit.text)
            .ok_or_else(|| limit.unexpected("a decimal number of at most 21 digits"))?;
        let codes = |channel: usize| match self.channels.get(channel) {
            _ if self.raw => codes(Conversion::plain(0), wanted, limit),
            Some(row) => codes(Conversion::of(row), wanted, limit),
            None => codes(Conversion::plain(0), wanted, limit),
        };
        Ok((0..MAX_CHANNELS).map(codes).collect())
    }
}

/// A comparison: in which orders value and limit may stand, and whether just these are not wanted.
type Sign = (&'static str, &'static [Ordering], bool);

const SIGNS: [Sign; 7] = [
    ("<", &[Ordering::Less], false),
    ("<=", &[Ordering::Less, Ordering::Equal], false),
    ("=", &[Ordering::Equal], false),
    ("==", &[Ordering::Equal], false),
    ("!=", &[Ordering::Equal], true),
    (">=", &[Ordering::Equal, Ordering::Greater], false),
    (">", &[Ordering::Greater], false),
];

fn alone_or(mut several: Vec<Condition>, joined: fn(Vec<Condition>) -> Condition) -> Condition {
    match several.len() {
        1 => several.remove(0),
        _ => joined(several),
    }
}

/// The whole numbers that stand in one of the wanted orders to the limit.
fn numbers(wanted: &[Ordering], limit: i128) -> RangeInclusive<i128> {
    let first = if wanted.contains(&Ordering::Less) { i128::MIN } else { limit };
    let last = if wanted.contains(&Ordering::Greater) { i128::MAX } else { limit };
    match wanted.contains(&Ordering::Equal) {
        true => first..=last,
        false if first == i128::MIN => first..=limit - 1,
        false => limit + 1..=last,
    }
}

/// The codes whose physical values stand in one of the wanted orders (neighbours) to the limit: an empty or whole range
/// of them.
fn codes(conversion: Conversion, wanted: &[Ordering], limit: Decimal) -> RangeInclusive<i64> {
    // In the order of the codes first come those that are "less", then equal, then "greater".
    let order = |code: i32| {
        let order = conversion.value(code).partial_cmp(&limit).unwrap_or(Ordering::Equal);
        if conversion.is_rising() { order } else { order.reverse() }
    };
    let in_order = |wanted: Ordering| if conversion.is_rising() { wanted } else { wanted.reverse() };
    let (equal, greater) = (first_code(|c| order(c).is_ge()), first_code(|c| order(c).is_gt()));
    let ends = |wanted: Ordering| match in_order(wanted) {
        Ordering::Less => (i32::MIN.into(), equal),
        Ordering::Equal => (equal, greater),
        Ordering::Greater => (greater, i64::from(i32::MAX) + 1),
    };
    let first = wanted.iter().map(|w| ends(*w).0).min().unwrap_or(0);
    let end = wanted.iter().map(|w| ends(*w).1).max().unwrap_or(0);
    first..=end - 1
}

/// The first code for which this is true; it stays true from there on. One more than the last code: none.
fn first_code(is_true: impl Fn(i32) -> bool) -> i64 {
    let (mut low, mut high) = (i64::from(i32::MIN), i64::from(i32::MAX) + 1);
    while low < high {
        let middle = (low + high).div_euclid(2);
        match i32::try_from(middle) {
            Ok(code) if !is_true(code) => low = middle + 1,
            _ => high = middle,
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Vec<ChannelRow> {
        let row = |name: &str, decimals, scale: &str, offset: &str| ChannelRow {
            name: name.into(),
            scale: scale.into(),
            offset: offset.into(),
            decimals,
            ..ChannelRow::default()
        };
        vec![row("plain", 0, "1", "0"), row("ecg [raw]", 0, "0.005", "-1024"), row("turned", 2, "-0.5", "1")]
    }

    fn parse(text: &str) -> Result<Condition, String> {
        Condition::parse(text, false, &table())
    }

    fn holds(text: &str, channel: u16, code: i32) -> bool {
        parse(text).unwrap().holds(&Entry::sample(100, 1, 0, channel, code), Some(1_000_000_000))
    }

    #[test]
    fn values_are_compared_as_exactly_as_big_integers_do() {
        let limits =
            ["0", "-0.245", "0.01", "1e2", "-5.1199999999999999999", "10737418.23", "-99999999999", "7.5"];
        let codes = [i32::MIN, i32::MIN + 1, -101, -100, -1, 0, 1, 700, 974, 975, 976, 1026, 1027, i32::MAX];
        for (limit, (sign, wanted, negated)) in limits.iter().flat_map(|l| SIGNS.iter().map(move |s| (l, s)))
        {
            let condition = parse(&format!("value {sign} {limit}")).unwrap();
            for (channel, row) in (0..).zip(&table()) {
                for code in codes {
                    let order = Conversion::of(row).value(code).partial_cmp(&Decimal::read(limit).unwrap());
                    let truth = wanted.contains(&order.unwrap()) != *negated;
                    let sample = Entry::sample(1, 1, 0, channel, code);
                    assert_eq!(condition.holds(&sample, None), truth, "{sign} {limit} {channel} {code}");
                }
            }
        }
        let raw = Condition::parse("value = 975", true, &table()).unwrap();
        assert!(raw.holds(&Entry::sample(1, 1, 0, 1, 975), None));
    }

    #[test]
    fn words_are_joined_as_in_every_language() {
        assert!(holds("value > 900 and value < 1000", 0, 975));
        assert!(!holds("value>900 and value<1000", 0, 1000));
        assert!(holds("value = 1 or value = 2 and value = 3", 0, 1), "and binds closer");
        assert!(!holds("(value = 1 or value = 2) and value = 3", 0, 1));
        assert!(holds("not value = 1 and not (value = 3 OR value = 4)", 0, 2));
        assert!(holds("channel = 'ecg [raw]' and value = -0.245", 1, 975));
        assert!(holds("channel=1 and seq >= 100 and seq != 101 and t >= 1970-01-01T00:00:01Z", 1, 975));
        assert!(!holds("t > 1970-01-01T00:00:01Z or t < \"1970-01-01T00:00:01Z\"", 1, 975));
        assert!(!parse("t > 1970-01-01").unwrap().holds(&Entry::sample(1, 1, 0, 0, 0), None));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let said = |text: &str| {
            let error = parse(text).unwrap_err();
            error
                .split_once("\": ")
                .unwrap()
                .1
                .split_once("; allowed")
                .map_or(error.clone(), |(e, _)| e.into())
        };
        assert_eq!(
            said("value >> 3"),
            "at character 7: found \">>\" where one of < <= = != >= > was expected"
        );
        assert_eq!(
            said("volts > 3"),
            "at character 1: found \"volts\" where value, channel, seq or t was expected"
        );
        assert_eq!(
            said("value > abc"),
            "at character 9: found \"abc\" where a decimal number of at most 21 digits was expected"
        );
        assert_eq!(
            said("value > 3 value"),
            "at character 11: found \"value\" where `and`, `or` or the end was expected"
        );
        assert_eq!(said("(value > 3"), "it ends where `)` was expected");
        assert_eq!(said(""), "it ends where value, channel, seq or t was expected");
        assert_eq!(said("seq = 1.5"), "at character 7: found \"1.5\" where a whole number was expected");
        assert_eq!(
            said("channel = x"),
            "at character 11: there is no channel \"x\"; the record has: 0 plain, 1 ecg [raw], 2 turned"
        );
        assert!(parse("channel = \"x").unwrap_err().contains("has no second one"));
        assert!(parse(&"(".repeat(100_000)).unwrap_err().contains("nested deeper"));
        assert!(parse("value = \u{e9} and").is_err());
    }
}
