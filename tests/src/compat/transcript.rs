//! What was seen in one run of a scenario.

use std::fmt;

use anyhow::Context;

/// Between what was asked and what was seen.
const ARROW: &str = " -> ";

/// The steps of one run, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    pub scenario: String,
    pub steps: Vec<Step>,
}

/// One line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was done; the same for every target.
    pub call: String,
    /// What became of it: the code and what else is stable.
    pub result: String,
}

impl Transcript {
    pub fn new(scenario: &str) -> Transcript {
        Transcript { scenario: scenario.to_owned(), steps: Vec::new() }
    }

    /// Reads what `to_string` wrote.
    ///
    /// # Errors
    /// When a line is not a number, a call and a result, or the numbers have holes.
    pub fn parse(scenario: &str, text: &str) -> anyhow::Result<Transcript> {
        let step = |(at, line): (usize, &str)| {
            let step = line.strip_prefix(&format!("{:02} ", at + 1)).and_then(|line| line.split_once(ARROW));
            let (call, result) = step.with_context(|| format!("{scenario}: not step {}: {line}", at + 1))?;
            anyhow::Ok(Step { call: call.to_owned(), result: result.to_owned() })
        };
        let steps = text.lines().enumerate().map(step).collect::<Result<_, _>>()?;
        Ok(Transcript { scenario: scenario.to_owned(), steps })
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Step { call, result }) in self.steps.iter().enumerate() {
            writeln!(f, "{:02} {call}{ARROW}{result}", at + 1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_it_was_written() -> anyhow::Result<()> {
        let step = |call: &str| Step { call: call.to_owned(), result: "OK; a -> b".to_owned() };
        let transcript = Transcript { scenario: "s".to_owned(), steps: vec![step("send"), step("receive")] };
        assert_eq!(Transcript::parse("s", &transcript.to_string())?, transcript);
        assert!(Transcript::parse("s", "02 send -> OK\n").is_err());
        Ok(())
    }
}
