//! Text that a stranger wrote, made safe to show: in a terminal, a log, a chat, a page.
//!
//! One cleaner for everything: no escape sequences, no control characters but newline and tab, nothing invisible that
//! reorders or hides. Cleaning twice changes nothing; cutting the input anywhere changes nothing.

const CARRIAGE_RETURN: char = '\u{240d}';

/// Cleans a whole text.
pub fn clean(input: impl AsRef<[u8]>) -> String {
    let mut cleaner = Cleaner::new();
    let mut out = cleaner.feed(input.as_ref());
    out.push_str(&cleaner.finish());
    out
}

/// Cleans a text, folds it into one line and cuts it to at most `max` characters.
pub fn one_line(input: impl AsRef<[u8]>, max: usize) -> String {
    let cleaned = clean(input);
    let mut words = cleaned.split_whitespace();
    let mut line = words.next().unwrap_or_default().to_owned();
    for word in words {
        line.push(' ');
        line.push_str(word);
        // Enough is known to cut; the rest of a long text need not be copied.
        if line.len() > max.saturating_mul(4) {
            break;
        }
    }
    cut(&line, max)
}

/// Cuts a text to at most `max` characters; the last of them then is an ellipsis.
pub fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(max.saturating_sub(1)).collect();
    if max > 0 {
        out.push('…');
    }
    out
}

/// Characters that take no room but change or hide what is shown.
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Cleans a text that arrives in pieces, wherever it is cut.
#[derive(Debug, Default)]
pub struct Cleaner {
    state: State,
    /// The beginning of a character whose end has not arrived.
    partial: Vec<u8>,
    /// A carriage return that a newline may still complete.
    carriage_return: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// After ESC, or between ESC and the final character of a short sequence.
    Escape,
    /// After ESC [, until the final character.
    Control,
    /// Inside OSC, DCS, SOS, PM or APC, until BEL, ST or the end of the line.
    String,
    /// After an ESC inside such a string.
    StringEscape,
}

impl Cleaner {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece and gives back what of it can be shown already.
    pub fn feed(&mut self, bytes: &[u8]) -> String {
        let mut out = String::with_capacity(bytes.len());
        let joined;
        let mut rest = if self.partial.is_empty() {
            bytes
        } else {
            let mut both = std::mem::take(&mut self.partial);
            both.extend_from_slice(bytes);
            joined = both;
            &joined
        };
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    text.chars().for_each(|c| self.put(c, &mut out));
                    return out;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    std::str::from_utf8(valid)
                        .expect("everything before the error is valid")
                        .chars()
                        .for_each(|c| self.put(c, &mut out));
                    let Some(len) = error.error_len() else {
                        self.partial = after.to_vec();
                        return out;
                    };
                    self.put(char::REPLACEMENT_CHARACTER, &mut out);
                    rest = &after[len..];
                }
            }
        }
    }

    /// Gives back what was held in case more would come, and is then ready for the next text.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        if !std::mem::take(&mut self.partial).is_empty() {
            self.put(char::REPLACEMENT_CHARACTER, &mut out);
        }
        if self.carriage_return {
            out.push(CARRIAGE_RETURN);
        }
        *self = Self::default();
        out
    }

    fn put(&mut self, c: char, out: &mut String) {
        match self.state {
            State::Ground => self.put_ground(c, out),
            State::Escape => match c {
                '[' => self.state = State::Control,
                ']' | 'P' | 'X' | '^' | '_' => self.state = State::String,
                ' '..='/' => {}
                '0'..='~' => self.state = State::Ground,
                _ => self.again(c, out),
            },
            State::Control => match c {
                ' '..='?' => {}
                '@'..='~' => self.state = State::Ground,
                _ => self.again(c, out),
            },
            State::String => match c {
                '\u{7}' | '\u{9c}' => self.state = State::Ground,
                '\u{1b}' => self.state = State::StringEscape,
                // An unfinished string must not swallow the lines after it.
                '\n' => self.again(c, out),
                _ => {}
            },
            State::StringEscape => match c {
                '\\' => self.state = State::Ground,
                _ => {
                    self.state = State::Escape;
                    self.put(c, out);
                }
            },
        }
    }

    /// A sequence was broken off: the character that did it stands for itself.
    fn again(&mut self, c: char, out: &mut String) {
        self.state = State::Ground;
        self.put_ground(c, out);
    }

    fn put_ground(&mut self, c: char, out: &mut String) {
        if std::mem::take(&mut self.carriage_return) && c != '\n' {
            out.push(CARRIAGE_RETURN);
        }
        match c {
            '\u{1b}' => self.state = State::Escape,
            '\r' => self.carriage_return = true,
            '\n' | '\t' => out.push(c),
            c if c.is_control() || is_invisible(c) => {}
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests;
