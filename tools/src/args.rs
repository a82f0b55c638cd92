//! The command line: `--name value`, `--name=value` and bare flags, each read once; what nobody asked for is an error.

use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// What is left of the command line while a subcommand takes its options out of it.
pub struct Args(Vec<String>);

/// A message for the user, who gave something that cannot be.
pub type Usage = String;

impl Args {
    /// The words after the subcommand.
    pub fn new(words: impl IntoIterator<Item = String>) -> Self {
        Args(words.into_iter().collect())
    }

    /// Takes the flag `name` out; whether it was there.
    pub fn flag(&mut self, name: &str) -> bool {
        let at = self.0.iter().position(|word| word == name);
        at.map(|at| self.0.remove(at)).is_some()
    }

    /// Takes the option `name` and its value out.
    pub fn option<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<T>, Usage> {
        let Some(at) = self.0.iter().position(|word| word.split('=').next() == Some(name)) else { return Ok(None) };
        let word = self.0.remove(at);
        let value = match word.split_once('=') {
            Some((_, value)) => value.to_owned(),
            None if at < self.0.len() && !self.0[at].starts_with("--") => self.0.remove(at),
            None => return Err(format!("{name} wants a value")),
        };
        value.parse().map(Some).map_err(|why| format!("{name} {value}: {why}"))
    }

    /// The option `name`, or `default`.
    pub fn or<T: FromStr<Err: Display>>(&mut self, name: &str, default: T) -> Result<T, Usage> {
        Ok(self.option(name)?.unwrap_or(default))
    }

    /// An option given in seconds.
    pub fn seconds(&mut self, name: &str, default: f64) -> Result<Duration, Usage> {
        let seconds = self.or(name, default)?;
        Duration::try_from_secs_f64(seconds).map_err(|why| format!("{name} {seconds}: {why}"))
    }

    /// An option that is a probability.
    pub fn probability(&mut self, name: &str) -> Result<f64, Usage> {
        let p = self.or(name, 0.0)?;
        if (0.0..=1.0).contains(&p) { Ok(p) } else { Err(format!("{name} {p}: a probability lies between 0 and 1")) }
    }

    /// A list of numbers, separated by commas; empty when the option is absent.
    pub fn list(&mut self, name: &str) -> Result<Vec<u64>, Usage> {
        let Some(list) = self.option::<String>(name)? else { return Ok(Vec::new()) };
        list.split(',').map(|n| n.parse().map_err(|why| format!("{name} {list}: {n:?}: {why}"))).collect()
    }

    /// The address `name`, which must lie on this machine: the tool floods and forges, and nobody else is to be hit.
    pub fn loopback(&mut self, name: &str) -> Result<SocketAddr, Usage> {
        let address: SocketAddr = self.option(name)?.ok_or(format!("{name} ADDRESS:PORT is missing"))?;
        if address.ip().is_loopback() {
            return Ok(address);
        }
        Err(format!("{name} {address}: only loopback addresses (127.0.0.0/8, ::1); this tool floods and forges"))
    }

    /// Ends the reading: nothing may be left.
    pub fn finish(self) -> Result<(), Usage> {
        self.0.first().map_or(Ok(()), |word| Err(format!("unknown option {word}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args::new(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_taken_in_any_order_and_form() {
        let mut a = args("--count=7 --resume --to 127.0.0.1:5 --drop-nth 1,2,30");
        assert_eq!(a.loopback("--to").unwrap(), "127.0.0.1:5".parse().unwrap());
        assert_eq!(a.or("--count", 1).unwrap(), 7);
        assert_eq!(a.list("--drop-nth").unwrap(), [1, 2, 30]);
        assert!(a.flag("--resume"));
        assert!(!a.flag("--resume"));
        assert_eq!(a.or("--absent", 3).unwrap(), 3);
        a.finish().unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(args("--count").or("--count", 1).unwrap_err().contains("wants a value"));
        assert!(args("--count --resume").or("--count", 1).unwrap_err().contains("wants a value"));
        assert!(args("--count x").or("--count", 1).unwrap_err().contains("--count x"));
        assert!(args("--drop 1.5").probability("--drop").unwrap_err().contains("between 0 and 1"));
        assert!(args("--deadline -1").seconds("--deadline", 1.0).is_err());
        assert!(args("--drop-nth 1,,2").list("--drop-nth").is_err());
        assert!(args("--cuont 1").finish().unwrap_err().contains("--cuont"));
    }

    #[test]
    fn only_this_machine_is_a_target() {
        for good in ["127.0.0.1:1", "127.9.8.7:1", "[::1]:1"] {
            args(&format!("--to {good}")).loopback("--to").unwrap();
        }
        for bad in ["0.0.0.0:1", "192.0.2.1:1", "[2001:db8::1]:1", "[::]:1", "[::ffff:192.0.2.1]:1"] {
            assert!(args(&format!("--to {bad}")).loopback("--to").unwrap_err().contains("only loopback"), "{bad}");
        }
        assert!(args("").loopback("--to").unwrap_err().contains("missing"));
    }
}
