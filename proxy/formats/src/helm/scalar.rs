//! Scalars of the YAML that [`super::block`] reads.

use serde_json::Value;

use super::{block::Misfit, shape::Shape};

/// Whether `text` may begin a plain scalar. Dash, question mark and colon may where no space follows them,
/// but Go quotes such texts.
pub(super) fn begins_plain(text: &str) -> bool {
    !text.starts_with([
        '-', '?', ':', ',', '[', ']', '{', '}', '#', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`',
    ])
}

/// Whether `line` holds nothing that would end a plain scalar.
pub(super) fn is_plain(line: &str) -> bool {
    !line.contains(": ") && !line.ends_with(':') && !line.contains(" #")
}

/// Whether a plain scalar means "nothing".
pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// A line break within a scalar, with `blanks` blank lines after it.
pub(super) fn fold(text: &mut String, blanks: usize) {
    if blanks == 0 {
        text.push(' ');
    }
    text.extend(std::iter::repeat_n('\n', blanks));
}

/// A plain scalar as a value of `shape`. Without a shape, only what no version of YAML reads differently is
/// typed here.
pub(super) fn typed(text: String, shape: Shape) -> Result<Value, Misfit> {
    if is_null(&text) {
        return Ok(Value::Null);
    }
    match shape {
        Shape::Text => Ok(text.into()),
        Shape::List(_) | Shape::Map(_) => Err(Misfit),
        Shape::Any => match text.as_str() {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            number if is_simple_number(number) => number.parse::<i64>().map(Value::from).map_err(|_| Misfit),
            word if word.starts_with(|c: char| c.is_ascii_alphabetic()) && !is_special(word) => {
                Ok(text.into())
            }
            _ => Err(Misfit),
        },
    }
}

fn is_simple_number(text: &str) -> bool {
    let digits = text.as_bytes();
    digits.iter().all(u8::is_ascii_digit) && (digits.len() == 1 || digits.first() != Some(&b'0'))
}

/// Words that some version of YAML, or some parser of numbers, takes for more than a text.
fn is_special(word: &str) -> bool {
    const WORDS: [&str; 10] = ["y", "n", "yes", "no", "on", "off", "true", "false", "nan", "null"];
    let word = word.to_ascii_lowercase();
    WORDS.contains(&word.as_str()) || word.starts_with("inf")
}

/// A quoted scalar being read.
pub(super) struct Quoted {
    quote: char,
    /// What has been read.
    pub(super) text: String,
    /// How much of it a line break may not trim: escaped white space.
    kept: usize,
    /// The last line ended in a backslash, so the line break is no content.
    joined: bool,
}

impl Quoted {
    pub(super) fn double() -> Self {
        Quoted { quote: '"', text: String::new(), kept: 0, joined: false }
    }

    pub(super) fn single() -> Self {
        Quoted { quote: '\'', ..Quoted::double() }
    }

    /// Reads a line after the opening quote or the indentation; returns what follows the closing quote, or
    /// `None` when there is none.
    pub(super) fn line<'t>(&mut self, line: &'t str) -> Result<Option<&'t str>, Misfit> {
        self.joined = false;
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            if c == self.quote {
                match rest.strip_prefix('\'') {
                    Some(after) if self.quote == '\'' => {
                        self.text.push('\'');
                        rest = after;
                    }
                    _ => return Ok(Some(rest)),
                }
            } else if c == '\\' && self.quote == '"' {
                if rest.is_empty() {
                    self.joined = true;
                    self.kept = self.text.len();
                    return Ok(None);
                }
                rest = self.escape(rest)?;
                self.kept = self.text.len();
            } else {
                self.text.push(c);
            }
        }
        Ok(None)
    }

    /// The end of a line without the closing quote, with `blanks` blank lines after it.
    pub(super) fn line_break(&mut self, blanks: usize) -> Result<(), Misfit> {
        if self.joined {
            return if blanks == 0 { Ok(()) } else { Err(Misfit) };
        }
        let trimmed = self.text.trim_end_matches(' ').len();
        self.text.truncate(trimmed.max(self.kept));
        fold(&mut self.text, blanks);
        self.kept = self.text.len();
        Ok(())
    }

    /// Reads what follows a backslash (YAML 1.2.2, 5.7); returns what follows it in turn.
    fn escape<'t>(&mut self, rest: &'t str) -> Result<&'t str, Misfit> {
        let escape = rest.chars().next().ok_or(Misfit)?;
        let rest = &rest[escape.len_utf8()..];
        let digits = match escape {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        if digits > 0 {
            let hex = rest.get(..digits).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let code = u32::from_str_radix(hex.ok_or(Misfit)?, 16).map_err(|_| Misfit)?;
            self.text.push(char::from_u32(code).ok_or(Misfit)?);
            return Ok(&rest[digits..]);
        }
        self.text.push(match escape {
            '0' => '\0',
            'a' => '\u{7}',
            'b' => '\u{8}',
            't' => '\t',
            'n' => '\n',
            'v' => '\u{b}',
            'f' => '\u{c}',
            'r' => '\r',
            'e' => '\u{1b}',
            ' ' | '"' | '/' | '\\' => escape,
            'N' => '\u{85}',
            '_' => '\u{a0}',
            'L' => '\u{2028}',
            'P' => '\u{2029}',
            _ => return Err(Misfit),
        });
        Ok(rest)
    }
}
