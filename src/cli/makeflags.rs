//! What the make that called says in `MAKEFLAGS`: which of its options are meant for genmake, too, and where its tokens are.
//!
//! Pure. What is not understood is left out: it is make's, of whatever version.

/// What make was told, as far as it is genmake's as well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MakeFlags {
    /// `-n`, or `-t`: nothing is to be made.
    pub dry_run: bool,
    /// `-q`
    pub question: bool,
    /// `-k`, unless `-S` takes it back.
    pub keep_going: bool,
    /// `-s`
    pub silent: bool,
    /// `-B`
    pub always_make: bool,
    /// `-j N`
    pub jobs: Option<usize>,
    /// Where tokens are.
    pub auth: Option<String>,
}

impl MakeFlags {
    /// Reads what `GNUMAKEFLAGS` and `MAKEFLAGS` say, in this order.
    pub fn read(env: &dyn Fn(&str) -> Option<String>) -> MakeFlags {
        let mut flags = MakeFlags::default();
        for text in ["GNUMAKEFLAGS", "MAKEFLAGS"].into_iter().filter_map(env) {
            flags.add(&text);
        }
        flags
    }

    fn add(&mut self, text: &str) {
        let words = words(text);
        // The first holds letters without a dash, if it is there; a blank says that it is not.
        let bare = words.first().filter(|word| !text.starts_with(' ') && !word.starts_with('-') && !word.contains('='));
        if let Some(letters) = bare {
            self.letters(letters, None);
        }
        let mut rest = words.iter().skip(usize::from(bare.is_some())).peekable();
        while let Some(word) = rest.next() {
            match word.strip_prefix('-') {
                // What follows are variables.
                Some("-") => break,
                Some(long) if long.starts_with('-') => self.long(&long[1..]),
                Some(letters) => {
                    let next = rest.peek().map(|next| next.as_str());
                    if self.letters(letters, next) {
                        rest.next();
                    }
                }
                // A variable, where the letters are missing.
                None => {}
            }
        }
    }

    /// Letters that stand together; `true` if the next word belongs to the last of them.
    fn letters(&mut self, letters: &str, next: Option<&str>) -> bool {
        for (at, letter) in letters.char_indices() {
            let rest = &letters[at + letter.len_utf8()..];
            match letter {
                'n' | 't' => self.dry_run = true,
                'q' => self.question = true,
                'k' => self.keep_going = true,
                'S' => self.keep_going = false,
                's' => self.silent = true,
                'B' => self.always_make = true,
                'j' => {
                    let is_own = !rest.is_empty();
                    let number = if is_own { Some(rest) } else { next }.and_then(|number| number.parse().ok());
                    // Without a number make has no bound.
                    self.jobs = number.or(Some(0));
                    return !is_own && number.is_some();
                }
                // These have a value, which may be joined to them.
                'l' | 'O' => return rest.is_empty() && next.is_some_and(|next| next.parse::<f64>().is_ok()),
                'C' | 'E' | 'f' | 'I' | 'o' | 'W' => return rest.is_empty(),
                _ => {}
            }
        }
        false
    }

    fn long(&mut self, long: &str) {
        match long.split_once('=').unwrap_or((long, "")) {
            ("dry-run" | "just-print" | "recon" | "touch", _) => self.dry_run = true,
            ("question", _) => self.question = true,
            ("keep-going", _) => self.keep_going = true,
            ("no-keep-going" | "stop", _) => self.keep_going = false,
            ("silent" | "quiet", _) => self.silent = true,
            ("no-silent", _) => self.silent = false,
            ("always-make", _) => self.always_make = true,
            ("jobs", number) => self.jobs = Some(number.parse().unwrap_or(0)),
            // By the second name up to make 4.1.
            ("jobserver-auth" | "jobserver-fds", auth) => self.auth = Some(auth.to_owned()),
            _ => {}
        }
    }
}

/// Words, in which a backslash takes its meaning from a blank.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.extend(chars.next()),
            c if c.is_ascii_whitespace() => {
                words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()))
            }
            c => word.push(c),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> MakeFlags {
        MakeFlags::read(&|name| (name == "MAKEFLAGS").then(|| text.to_owned()))
    }

    #[test]
    fn the_letters_that_are_ours() {
        let all = MakeFlags {
            dry_run: true,
            question: true,
            keep_going: true,
            silent: true,
            always_make: true,
            jobs: Some(4),
            auth: Some("3,4".to_owned()),
        };
        for text in [
            "nqksB -j4 --jobserver-auth=3,4",
            "-n -q -k -s -B -j 4 --jobserver-fds=3,4",
            "tqkrRwsB -j4 --jobserver-auth=3,4 -- A=b",
        ] {
            assert_eq!(read(text), all, "{text}");
        }
        assert_eq!(
            read("w -j8 --jobserver-auth=fifo:/tmp/GMfifo1 -- CFLAGS=-n\\ -k").auth.as_deref(),
            Some("fifo:/tmp/GMfifo1")
        );
        assert_eq!(read("kS"), MakeFlags::default());
        assert_eq!(read("-j"), MakeFlags { jobs: Some(0), ..MakeFlags::default() });
    }

    #[test]
    fn what_is_not_ours_is_left_out() {
        for text in [
            "",
            " ",
            "\\",
            " -- n=1",
            "nothing=k",
            " -I n -O -l 2.5 --trace --no-print-directory --warn-undefined-variables",
            " --jobserver-style=pipe -- --dry-run",
            "rR",
            "Onk",
            "é -é --é=é",
            "w -- A=a\\ -n",
        ] {
            assert_eq!(read(text), MakeFlags::default(), "{text}");
        }
    }

    #[test]
    fn both_variables_are_read() {
        let env = |name: &str| Some(if name == "GNUMAKEFLAGS" { "-k -j2" } else { "s -j3" }.to_owned());
        let flags = MakeFlags { keep_going: true, silent: true, jobs: Some(3), ..MakeFlags::default() };
        assert_eq!(MakeFlags::read(&env), flags);
    }
}
