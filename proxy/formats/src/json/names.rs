//! Names of members as programs in Go compare them.

/// Longest key that is [`folded`], in bytes.
pub(crate) const MAX_FOLDED: usize = 32;

/// A member's name in lower case, as Go's encoding/json compares it: to it `Version` and `ver\u{17f}ion` are `version`, and
/// the last of them counts. `None` for a name that is no ASCII then, or longer than [`MAX_FOLDED`]: none that such a
/// program knows.
///
/// Source: Go's encoding/json/fold.go; Unicode's simple case folding, by which two more characters are ASCII letters.
pub(crate) fn folded<'b>(name: &str, buffer: &'b mut [u8; MAX_FOLDED]) -> Option<&'b str> {
    let mut length = 0;
    for character in name.chars() {
        let folded = match character {
            '\u{17f}' => b's',
            '\u{212a}' => b'k',
            _ => u8::try_from(character).ok().filter(u8::is_ascii)?.to_ascii_lowercase(),
        };
        *buffer.get_mut(length)? = folded;
        length += 1;
    }
    str::from_utf8(&buffer[..length]).ok()
}
