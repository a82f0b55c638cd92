//! The project's load tool, and what its runs are to show of a server.

pub use crate::common::tool::{Proxy, Report, run};

use crate::door::Server;

impl Report {
    /// Asserts that what the run was to show was so.
    pub fn good(self, server: &Server) -> Report {
        assert_eq!(self.field("good"), "true", "{}\nserver:\n{}", self.line, tail(&server.output()));
        self
    }
}

/// The end of a long text.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
