//! The command line that all peers have, as ../README.md says it.

/// What the command line says.
pub struct Options {
    words: Vec<String>,
}

impl Options {
    pub fn read() -> Options {
        Options { words: std::env::args().skip(1).collect() }
    }

    pub fn is_server(&self) -> bool {
        self.words[0] == "server"
    }

    pub fn address(&self) -> &str {
        self.words.last().expect("an address")
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.words.iter().position(|word| word == name)?;
        self.words.get(at + 1).map(String::as_str)
    }

    pub fn number(&self, name: &str) -> Option<usize> {
        self.get(name).map(|text| text.parse().expect("a number"))
    }

    /// Where a client's socket is bound.
    pub fn local(&self) -> String {
        format!("127.0.0.1:{}", self.number("-local").unwrap_or(0))
    }

    pub fn psk(&self) -> Option<Vec<u8>> {
        let digits = self.get("-psk")?;
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits");
        Some((0..digits.len()).step_by(2).map(byte).collect())
    }

    pub fn read_file(&self, name: &str) -> Option<Vec<u8>> {
        self.get(name).map(|path| std::fs::read(path).unwrap_or_else(|e| panic!("{path}: {e}")))
    }
}
