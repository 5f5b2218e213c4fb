//! Which topics are not there, told with the commands that make them.

use std::fmt;

/// For answer topics of which none is there to go by.
const PROPOSED_PARTITIONS: i32 = 6;

/// Topics that are not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingTopics {
    /// Topics to read from. They are somebody else's, and never made here.
    pub answers: Vec<String>,
    /// Topics to write to.
    pub outputs: Vec<String>,
    /// Whether `topics.create` is set: the outputs are then made once the answers are there.
    pub create: bool,
    /// As configured.
    pub servers: String,
    /// Of the answer topics that are there: outputs get as many.
    pub partitions: Option<i32>,
}

impl MissingTopics {
    fn command(&self, topic: &str) -> String {
        format!(
            "\n  kafka-topics.sh --bootstrap-server {} --create --topic {topic} --partitions {}",
            self.servers,
            self.partitions.unwrap_or(PROPOSED_PARTITIONS)
        )
    }
}

impl fmt::Display for MissingTopics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (answers, outputs) = (self.answers.join(", "), self.outputs.join(", "));
        match (answers.is_empty(), outputs.is_empty()) {
            (false, true) => write!(f, "answer topics are missing: {answers}; run")?,
            (true, _) => write!(
                f,
                "output topics are missing: {outputs}; set topics.create to true, or run"
            )?,
            (false, false) if self.create => write!(
                f,
                "answer topics are missing: {answers} (output topics are made after them); run"
            )?,
            (false, false) => write!(
                f,
                "topics are missing: {answers} to read from, {outputs} to write to; set \
                 topics.create to true for the latter, or run"
            )?,
        }
        let outputs = self.outputs.iter().filter(|_| !self.create);
        for topic in self.answers.iter().chain(outputs) {
            f.write_str(&self.command(topic))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_somebody_else_must_make_is_asked_for() {
        let told = |answers: &[&str], outputs: &[&str], create| {
            let missing = MissingTopics {
                answers: answers.iter().map(ToString::to_string).collect(),
                outputs: outputs.iter().map(ToString::to_string).collect(),
                create,
                servers: "kafka:9092".to_owned(),
                partitions: (answers.len() < 2).then_some(3),
            };
            missing.to_string()
        };
        let made = |topic: &str, partitions: i32| {
            format!(
                "\n  kafka-topics.sh --bootstrap-server kafka:9092 --create --topic {topic} \
                 --partitions {partitions}"
            )
        };
        for (answers, outputs, create, expected) in [
            (
                &["in"][..],
                &[][..],
                true,
                format!("answer topics are missing: in; run{}", made("in", 3)),
            ),
            (
                &["in", "more"],
                &["out"],
                true,
                format!(
                    "answer topics are missing: in, more (output topics are made after them); \
                     run{}{}",
                    made("in", 6),
                    made("more", 6)
                ),
            ),
            (
                &[],
                &["out"],
                false,
                format!(
                    "output topics are missing: out; set topics.create to true, or run{}",
                    made("out", 3)
                ),
            ),
            (
                &["in"],
                &["out"],
                false,
                format!(
                    "topics are missing: in to read from, out to write to; set topics.create to \
                     true for the latter, or run{}{}",
                    made("in", 3),
                    made("out", 3)
                ),
            ),
        ] {
            assert_eq!(told(answers, outputs, create), expected);
        }
    }
}
