//! A small streaming HTML tokenizer: tags, attributes and text, tolerant of everything, holding at most one
//! tag. Nothing it yields is ever written out as markup, so it needs no more of HTML's rules than links do.

use std::{
    collections::BTreeMap,
    io::{self, BufRead},
};

use crate::IndexError;

/// Longest tag, and longest run of text that is kept, in bytes.
const MAX_TOKEN: usize = 64 << 10;

/// Attributes by lower-case name; of two the first counts.
pub(super) type Attributes = BTreeMap<String, String>;

/// A piece of a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// An opening (or lone) tag: lower-case name, attributes.
    Start(String, Attributes),
    /// A closing tag: lower-case name.
    End(String),
    /// Text between two tags, references decoded.
    Text(String),
}

/// The tokens of a page.
pub(super) struct Tokens<'i> {
    input: io::BufReader<&'i mut dyn BufRead>,
    /// A `<` has been taken already.
    in_tag: bool,
}

impl<'i> Tokens<'i> {
    pub(super) fn new(input: &'i mut dyn BufRead) -> Self {
        Tokens { input: io::BufReader::with_capacity(64 << 10, input), in_tag: false }
    }

    /// The next token; `None` at the end of the page.
    ///
    /// # Errors
    /// [`IndexError::TooLarge`] for a tag of more than 64 KiB.
    pub(super) fn next(&mut self) -> Result<Option<Token>, IndexError> {
        loop {
            if !std::mem::take(&mut self.in_tag) {
                let (text, found) = self.until(b'<')?;
                self.in_tag = found;
                if !text.is_empty() {
                    return Ok(Some(Token::Text(unescaped(&String::from_utf8_lossy(&text)))));
                }
                if !found {
                    return Ok(None);
                }
                continue;
            }
            match self.peek()? {
                None => return Ok(None),
                Some(b'!' | b'?') => self.skip_declaration()?,
                Some(b'/') => {
                    let tag = self.tag()?;
                    return Ok(Some(Token::End(name_of(&tag[1..]).0)));
                }
                Some(byte) if byte.is_ascii_alphabetic() => {
                    let tag = self.tag()?;
                    let (name, rest) = name_of(&tag);
                    if matches!(name.as_str(), "script" | "style") && !tag.ends_with('/') {
                        self.skip_past(format!("</{name}").as_bytes())?;
                        self.until(b'>')?;
                    }
                    return Ok(Some(Token::Start(name, attributes(rest))));
                }
                Some(_) => return Ok(Some(Token::Text("<".to_owned()))),
            }
        }
    }

    fn peek(&mut self) -> Result<Option<u8>, IndexError> {
        Ok(self.input.fill_buf()?.first().copied())
    }

    /// Everything before the next `end`, which is taken too, and whether there was one. What exceeds
    /// [`MAX_TOKEN`] is dropped.
    fn until(&mut self, end: u8) -> Result<(Vec<u8>, bool), IndexError> {
        let mut kept = Vec::new();
        loop {
            let block = self.input.fill_buf()?;
            if block.is_empty() {
                return Ok((kept, false));
            }
            let found = memchr::memchr(end, block);
            let taken = found.unwrap_or(block.len());
            let room = MAX_TOKEN - kept.len();
            kept.extend_from_slice(&block[..taken.min(room)]);
            self.input.consume(taken + usize::from(found.is_some()));
            if found.is_some() {
                return Ok((kept, true));
            }
        }
    }

    /// The inside of a tag up to the `>` outside quotes, which is taken too.
    fn tag(&mut self) -> Result<String, IndexError> {
        let mut tag = Vec::new();
        let mut quote = None;
        while let Some(byte) = self.peek()? {
            self.input.consume(1);
            match quote {
                None if byte == b'>' => break,
                // A quote opens a value only after an equals sign; elsewhere it is a stray.
                None if matches!(byte, b'"' | b'\'') && ends_in_equals(&tag) => quote = Some(byte),
                Some(open) if open == byte => quote = None,
                _ => {}
            }
            if tag.len() == MAX_TOKEN {
                return Err(IndexError::TooLarge("length of an HTML tag"));
            }
            tag.push(byte);
        }
        Ok(String::from_utf8_lossy(&tag).into_owned())
    }

    /// Skips a comment, a doctype or a processing instruction.
    fn skip_declaration(&mut self) -> Result<(), IndexError> {
        let mut start = Vec::with_capacity(3);
        while start.len() < 3 {
            let Some(byte) = self.peek()? else { return Ok(()) };
            self.input.consume(1);
            if byte == b'>' {
                return Ok(());
            }
            start.push(byte);
        }
        if start == b"!--" { self.skip_past(b"-->") } else { self.until(b'>').map(drop) }
    }

    /// Skips everything up to and including `end` (ASCII case ignored).
    fn skip_past(&mut self, end: &[u8]) -> Result<(), IndexError> {
        let mut last: Vec<u8> = Vec::with_capacity(end.len());
        while let Some(byte) = self.peek()? {
            self.input.consume(1);
            if last.len() == end.len() {
                last.remove(0);
            }
            last.push(byte);
            if last.eq_ignore_ascii_case(end) {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn ends_in_equals(tag: &[u8]) -> bool {
    tag.iter().rev().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'=')
}

fn name_of(tag: &str) -> (String, &str) {
    let end = tag.find(|c: char| c.is_ascii_whitespace() || c == '/').unwrap_or(tag.len());
    (tag[..end].to_ascii_lowercase(), &tag[end..])
}

fn attributes(mut rest: &str) -> Attributes {
    let mut found = Attributes::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
        if rest.is_empty() {
            return found;
        }
        // An equals sign in front belongs to the name (HTML, 13.2.5.32).
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let end = rest[first..]
            .find(|c: char| c.is_ascii_whitespace() || matches!(c, '=' | '/'))
            .map_or(rest.len(), |end| end + first);
        let name = rest[..end].to_ascii_lowercase();
        rest = rest[end..].trim_start();
        let mut value = "";
        if let Some(after) = rest.strip_prefix('=') {
            (value, rest) = value_of(after.trim_start());
        }
        found.entry(name).or_insert_with(|| unescaped(value));
    }
}

/// An attribute's value and what follows it.
fn value_of(text: &str) -> (&str, &str) {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    match quote {
        Some(quote) => text[1..].split_once(quote).unwrap_or((&text[1..], "")),
        None => {
            let end = text.find(|c: char| c.is_ascii_whitespace()).unwrap_or(text.len());
            text.split_at(end)
        }
    }
}

/// Decodes the character references that pages of links contain; an unknown one stays as it is.
pub(super) fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        // The longest reference known here has nine characters between its marks.
        let end = rest.bytes().take(12).position(|byte| byte == b';');
        match end.and_then(|end| Some((end, reference(&rest[1..end])?))) {
            Some((end, c)) => {
                out.push(c);
                rest = &rest[end + 1..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn reference(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(code).filter(|c| *c != '\0');
    }
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => '\u{a0}',
        "num" => '#',
        "plus" => '+',
        "equals" => '=',
        "colon" => ':',
        "sol" => '/',
        "lowbar" => '_',
        "period" => '.',
        "comma" => ',',
        "excl" => '!',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(page: &[u8]) -> Vec<Token> {
        let mut input = page;
        let mut tokens = Tokens::new(&mut input);
        let mut found = Vec::new();
        while let Some(token) = tokens.next().unwrap() {
            found.push(token);
        }
        found
    }

    fn start(name: &str, attributes: &[(&str, &str)]) -> Token {
        Token::Start(
            name.into(),
            attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        )
    }

    #[test]
    fn sloppy_markup_is_understood() {
        for (page, want) in [
            (
                "<A HREF = 'a&amp;b>c' data-yanked>x</a >",
                vec![
                    start("a", &[("href", "a&b>c"), ("data-yanked", "")]),
                    Token::Text("x".into()),
                    Token::End("a".into()),
                ],
            ),
            (
                "<a href=x/y.whl data-yanked=\"\"/>",
                vec![start("a", &[("href", "x/y.whl"), ("data-yanked", "")])],
            ),
            ("<!-- <a href=x> --><!doctype html><?x?><!>", vec![]),
            ("<script>if (a<b) '<a href=x>'</SCRIPT ><br/>", vec![start("script", &[]), start("br", &[])]),
            (
                "1 < 2 &lt; &#51; &#x34; &bogus; &",
                vec![
                    Token::Text("1 ".into()),
                    Token::Text("<".into()),
                    Token::Text(" 2 < 3 4 &bogus; &".into()),
                ],
            ),
            ("<a href='x", vec![start("a", &[("href", "x")])]),
            ("<a \u{e9}\u{e9}=1 =c b=2>", vec![start("a", &[("\u{e9}\u{e9}", "1"), ("=c", ""), ("b", "2")])]),
        ] {
            assert_eq!(tokens(page.as_bytes()), want, "{page}");
        }
    }

    #[test]
    fn rs_62_an_endless_tag_is_an_error() {
        let page = format!("<a href=\"{}\">", "x".repeat(MAX_TOKEN));
        let mut input = page.as_bytes();
        assert!(matches!(Tokens::new(&mut input).next(), Err(IndexError::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(page in prop::collection::vec(any::<u8>(), 0..80), markup in "[<>a/='\" !&;é-]{0,60}") {
            tokens(&page);
            tokens(markup.as_bytes());
        }
    }
}
