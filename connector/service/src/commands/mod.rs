//! One command per file, and what they share.

mod beginning;
pub mod bench;
pub mod correct;
pub mod demo;
pub mod eval;
mod files;
mod line;
mod line_output;
pub mod replay;
pub mod run;
pub mod show;
mod shown;
pub mod train;
pub mod validate;

use std::{
    cmp::Reverse,
    fmt, io,
    time::{SystemTime, UNIX_EPOCH},
};

use aligner_evaluation::render::harmless_line;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::{
    cli,
    config::{self, Layers, ModelChoice, Problem, Problems, Settings},
    diff,
};

/// The command cannot work as it was written; exit code 2.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::error::Error for Usage {}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The reader of stdout went away, as `head` does: not a failure worth a message, as long as nothing
/// else is left undone. Other pipes break, too, so the error of one does not tell.
#[derive(Debug)]
pub struct Unread;

impl std::error::Error for Unread {}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads stdout any more")
    }
}

/// The error of writing to stdout.
fn unprinted(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Unread.into(),
        _ => error.into(),
    }
}

/// Settings of the service: file, then environment, then `--set`.
fn settings(args: &cli::Run) -> Result<Settings, Problems> {
    let layers = Layers {
        file: args.config.clone(),
        environment: std::env::vars_os().collect(),
        flags: args.set.clone(),
    };
    config::read(&layers)
}

/// What the flags of a model say, defaults too: names of [`cli::Model`]'s fields, which are those of the
/// keys of `aligner`.
fn flags(model: &cli::Model) -> Vec<(&'static str, String)> {
    let cli::Model {
        model,
        profile,
        dtype,
        device,
        threads,
        max_new_tokens,
    } = model;
    let said = [
        ("model", Some(model.clone())),
        ("profile", profile.clone()),
        ("dtype", Some(dtype.clone())),
        ("device", Some(device.clone())),
        ("threads", threads.map(|threads| threads.to_string())),
        ("max_new_tokens", Some(max_new_tokens.to_string())),
    ];
    said.into_iter()
        .filter_map(|(flag, value)| Some((flag, value?)))
        .collect()
}

/// Settings of a command that takes a model from its flags, and what they do not say from the
/// environment: the server of a remote one, above all.
fn model(args: &cli::Model) -> Result<config::Aligner, Problems> {
    let named = |(flag, value)| (format!("aligner.{flag}"), value);
    let environment = std::env::vars_os()
        .filter(|(name, _)| name.to_string_lossy().starts_with("ALIGNER__ALIGNER__"))
        .collect();
    let layers = Layers {
        file: None,
        environment,
        flags: flags(args).into_iter().map(named).collect(),
    };
    match config::read(&layers) {
        Ok(settings) => Ok(settings.aligner),
        Err(problems) => Err(by_flags(problems, &layers.flags, "")),
    }
}

/// Problems of what flags of the model said, in the words of a command line: nobody can write `null`
/// there. `or_else` is what a command takes beside variables.
fn by_flags(Problems(problems): Problems, flags: &[(String, String)], or_else: &str) -> Problems {
    let said = |key: &str| flags.iter().find(|(flag, _)| flag == key);
    let asks_a_server = said("aligner.model")
        .is_some_and(|(_, model)| ModelChoice::from(model.clone()) == ModelChoice::Remote);
    let by_flag = |problem: Problem| match problem.key.as_str() {
        "aligner.remote.url" | "aligner.remote.model" if asks_a_server => {
            let variable = format!("ALIGNER__{}", problem.key.to_uppercase().replace('.', "__"));
            Problem {
                fix: problem
                    .fix
                    .map(|fix| format!("set the variable {variable}{or_else}: {fix}")),
                ..problem
            }
        }
        key if said(key).is_some() => {
            let flag = key.replace("aligner.", "--").replace('_', "-");
            Problem {
                fix: problem.fix.map(|fix| flag_fix(&flag, fix)),
                key: flag,
                ..problem
            }
        }
        _ => problem,
    };
    Problems(problems.into_iter().map(by_flag).collect())
}

/// What to give on the command line where a file would have a key.
fn flag_fix(flag: &str, fix: String) -> String {
    match flag {
        "--threads" => {
            "give as many as there are cores, or leave --threads out for all of them".to_owned()
        }
        "--max-new-tokens" => "give for example --max-new-tokens 1024".to_owned(),
        // Of a word that is none; one that does not suit the device is told in words already.
        "--dtype" if fix.starts_with("write ") => "give for example --dtype auto".to_owned(),
        _ => fix,
    }
}

/// The runtime of a command.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
}

/// Writes where nobody may read: with one worker thread, signals and timers would wait for it, too.
fn may_block<T>(write: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(write)
}

/// A bar on stderr, invisible where that is no terminal; a spinner without a `total`.
fn progress_bar(total: Option<u64>) -> ProgressBar {
    // indicatif draws nothing where stderr is no terminal.
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "{msg} {bar:40} {pos}/{len} {speed} {eta} left",
        ),
        None => (ProgressBar::new_spinner(), "{msg} {pos} done {speed}"),
    };
    let speed = |state: &ProgressState, out: &mut dyn fmt::Write| {
        // The bar's own buffer takes everything.
        let _ = write!(out, "{:.1} answers/s", state.per_sec());
    };
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    bar.with_style(style.with_key("speed", speed))
}

/// The question of an answer for people, on one line of [`COLUMNS`] with the two blanks that it is
/// given: whether an answer contradicts itself or evades is judged by what was asked. Of a long one the end
/// says what that was, and the beginning what it was about.
fn question_line(question: &str) -> String {
    let words: Vec<&str> = question.split_whitespace().collect();
    let line = diff::harmless(&words.join(" "));
    let columns = COLUMNS - "  Q: ".len();
    if wide(line.chars()) <= columns {
        return format!("Q: {line}");
    }
    let begin = within(line.chars(), columns * 2 / 5);
    let end: Vec<char> = within(
        line.chars().rev(),
        columns - 1 - wide(begin.iter().copied()),
    );
    let text = |chars: &mut dyn Iterator<Item = &char>| chars.collect::<String>();
    let (begin, end) = (text(&mut begin.iter()), text(&mut end.iter().rev()));
    format!("Q: {}…{}", begin.trim_end(), end.trim_start())
}

/// As wide as the help is at most: nobody here asks a terminal.
const COLUMNS: usize = 100;

/// Columns of some letters. Those of East Asia and emoji take two; to count some too many is better than a
/// second line.
fn wide(chars: impl Iterator<Item = char>) -> usize {
    chars.map(|c| if c < '\u{1100}' { 1 } else { 2 }).sum()
}

/// As many of them as take no more than so many columns.
fn within(chars: impl Iterator<Item = char>, columns: usize) -> Vec<char> {
    let mut left = columns;
    let fits = |c: &char| {
        let rest = left.checked_sub(wide([*c].into_iter()));
        left = rest.unwrap_or(left);
        rest.is_some()
    };
    chars.take_while(fits).collect()
}

/// How many there are of each reason, most first.
fn by_count<'a>(reasons: impl Iterator<Item = (u64, &'a str)>) -> Vec<String> {
    let mut reasons: Vec<_> = reasons.collect();
    reasons.sort_unstable_by_key(|(count, reason)| (Reverse(*count), *reason));
    let reasons = reasons.into_iter();
    reasons
        .map(|(count, reason)| format!("{count} {}", harmless_line(reason)))
        .collect()
}

/// What belongs to a figure before it, if there is any.
fn in_brackets(items: &[String]) -> String {
    if items.is_empty() {
        return String::new();
    }
    format!(" ({})", items.join(", "))
}

/// A line, cut where it would take more than so many columns.
fn cut(line: &str, columns: usize) -> String {
    if wide(line.chars()) <= columns {
        return line.to_owned();
    }
    let short: String = within(line.chars(), columns.saturating_sub(1))
        .into_iter()
        .collect();
    format!("{}…", short.trim_end())
}

/// That rows are conversations of which a part was read.
fn shortened(rows: usize) -> Option<String> {
    (rows > 0).then(|| {
        format!(
            "of {rows} rows the question is the last message of the user alone, as input.fields takes \
             it with /messages/role=user/content: system messages and earlier turns were left out"
        )
    })
}

/// Epoch milliseconds.
fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_flags_said_wrong_is_mended_by_flags_and_a_files_mistake_by_its_keys() {
        let problem = |key: &str, fix: &str| Problem {
            key: key.to_owned(),
            value: None,
            message: String::new(),
            fix: Some(fix.to_owned()),
        };
        let flag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let flags = [
            flag("aligner.model", "remote"),
            flag("aligner.threads", "0"),
            flag("aligner.dtype", "f7"),
            flag("aligner.max_new_tokens", "0"),
        ];
        for (key, fix, flag, mended) in [
            (
                "aligner.threads",
                "use null for all cores",
                "--threads",
                "give as many as there are cores, or leave --threads out for all of them",
            ),
            (
                "aligner.dtype",
                "write for example aligner.dtype: \"auto\"",
                "--dtype",
                "give for example --dtype auto",
            ),
            ("aligner.dtype", "use f32", "--dtype", "use f32"),
            (
                "aligner.max_new_tokens",
                "write 1024",
                "--max-new-tokens",
                "give for example --max-new-tokens 1024",
            ),
            (
                "aligner.remote.url",
                "name it",
                "aligner.remote.url",
                "set the variable ALIGNER__ALIGNER__REMOTE__URL, or else: name it",
            ),
            ("aligner.top_p", "write 1", "aligner.top_p", "write 1"),
        ] {
            let problems = Problems(vec![problem(key, fix)]);
            let Problems(told) = by_flags(problems, &flags, ", or else");
            assert_eq!(told, [problem(flag, mended)], "{key}");
        }
        let problems = Problems(vec![problem("aligner.threads", "use null for all cores")]);
        let told = by_flags(problems.clone(), &flags[..1], "");
        assert_eq!(told, problems, "a variable said it");
    }

    #[test]
    fn a_question_is_one_line_that_drives_no_terminal() {
        assert_eq!(
            question_line("why?\r\n\tand\u{1b}[2J"),
            "Q: why? and\u{fffd}[2J"
        );
        let fitting = "q".repeat(COLUMNS - 5);
        assert_eq!(question_line(&fitting), format!("Q: {fitting}"));
        let longer = question_line(&format!("{fitting}!"));
        assert_eq!(longer, format!("Q: {}…{}!", "q".repeat(38), "q".repeat(55)));
        assert_eq!(longer.chars().count(), COLUMNS - 2);
        let asked = question_line(&format!(
            "Assistant: {} Human: And where?",
            "Sure. ".repeat(90)
        ));
        assert!(asked.starts_with("Q: Assistant: Sure."), "{asked}");
        assert!(asked.ends_with("Sure. Human: And where?"), "{asked}");
        let wide = question_line(&"日".repeat(COLUMNS));
        assert_eq!(wide.chars().count(), "Q: …".chars().count() + 47);
    }
}
