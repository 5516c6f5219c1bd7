//! Lines of `mqadmin`, the tool of RocketMQ, as lines of this one: `updateTopic -t orders -r 8` is
//! `topic create orders --queues 8`. They are in no help; whoever uses one is told the line to use instead.
//!
//! Source: apache/rocketmq `tools/.../command/**/*SubCommand.java` (names and options).

use std::ffi::OsString;

/// A line in our words, and what to tell on stderr about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Translated {
    pub(crate) args: Vec<OsString>,
    pub(crate) hints: Vec<String>,
}

/// One command of `mqadmin`.
struct Alias {
    name: &'static str,
    /// Noun and verb here.
    words: &'static [&'static str],
    flags: &'static [Flag],
}

/// One option of it, and what becomes of its value.
struct Flag {
    short: &'static str,
    long: &'static str,
    meaning: Meaning,
}

#[derive(Copy, Clone)]
enum Meaning {
    /// The name that follows the verb; must be given.
    Name,
    /// The same, but may be left out.
    Filter(&'static str),
    /// A flag of ours with the same value.
    Value(&'static str),
    /// Words of ours that depend on the value; `None` for a value that means nothing here.
    Words(fn(&str) -> Option<Vec<String>>),
    /// Without meaning here: which broker, which cluster.
    Ignored,
    /// The same, and has no value.
    IgnoredSwitch,
    /// Where namesrv is.
    Namesrv,
}

const fn flag(short: &'static str, long: &'static str, meaning: Meaning) -> Flag {
    Flag { short, long, meaning }
}

const NAMESRV: Flag = flag("n", "namesrvAddr", Meaning::Namesrv);
const CLUSTER: Flag = flag("c", "clusterName", Meaning::Ignored);
const BROKER: Flag = flag("b", "brokerAddr", Meaning::Ignored);
const TOPIC: Flag = flag("t", "topic", Meaning::Name);
const GROUP: Flag = flag("g", "groupName", Meaning::Name);

const MESSAGE: Flag = flag("i", "msgId", Meaning::Name);

const ALIASES: &[Alias] = &[
    Alias {
        name: "updateTopic",
        words: &["topic", "create", "--or-alter"],
        flags: &[
            TOPIC,
            flag("r", "readQueueNums", Meaning::Ignored),
            flag("w", "writeQueueNums", Meaning::Value("--queues")),
            flag("a", "attributes", Meaning::Words(message_type)),
            flag("p", "perm", Meaning::Words(permission)),
            flag("o", "order", Meaning::Words(ordered_topic)),
            BROKER,
            CLUSTER,
            NAMESRV,
        ],
    },
    Alias {
        name: "topicList",
        words: &["topic", "list"],
        flags: &[flag("c", "clusterModel", Meaning::IgnoredSwitch), NAMESRV],
    },
    Alias {
        name: "topicRoute",
        words: &["topic", "route"],
        flags: &[TOPIC, flag("l", "list", Meaning::IgnoredSwitch), NAMESRV],
    },
    Alias { name: "topicStatus", words: &["topic", "stats"], flags: &[TOPIC, CLUSTER, NAMESRV] },
    Alias { name: "deleteTopic", words: &["topic", "delete"], flags: &[TOPIC, CLUSTER, NAMESRV] },
    Alias {
        name: "clusterList",
        words: &["cluster", "info"],
        flags: &[
            flag("m", "moreStats", Meaning::IgnoredSwitch),
            flag("i", "interval", Meaning::Ignored),
            CLUSTER,
            NAMESRV,
        ],
    },
    Alias {
        name: "consumerProgress",
        words: &["group", "lag"],
        flags: &[
            GROUP,
            flag("t", "topicName", Meaning::Filter("--topic")),
            flag("s", "showClientIP", Meaning::Ignored),
            CLUSTER,
            NAMESRV,
        ],
    },
    Alias {
        name: "updateSubGroup",
        words: &["group", "create"],
        flags: &[
            GROUP,
            flag("o", "consumeMessageOrderly", Meaning::Words(ordered_group)),
            flag("r", "retryMaxTimes", Meaning::Words(attempts)),
            BROKER,
            CLUSTER,
            NAMESRV,
        ],
    },
    Alias {
        name: "deleteSubGroup",
        words: &["group", "delete"],
        flags: &[GROUP, flag("r", "removeOffset", Meaning::Ignored), BROKER, CLUSTER, NAMESRV],
    },
    Alias {
        name: "sendMessage",
        words: &["message", "send"],
        flags: &[
            TOPIC,
            flag("p", "body", Meaning::Name),
            flag("k", "keys", Meaning::Value("--key")),
            flag("c", "tags", Meaning::Value("--tag")),
            NAMESRV,
        ],
    },
    Alias {
        name: "resetOffsetByTime",
        words: &["group", "reset-offset"],
        flags: &[
            flag("g", "group", Meaning::Name),
            flag("t", "topic", Meaning::Filter("--topic")),
            flag("s", "timestamp", Meaning::Words(reset_to)),
            flag("f", "force", Meaning::Ignored),
            flag("c", "cplus", Meaning::IgnoredSwitch),
            BROKER,
            NAMESRV,
        ],
    },
    Alias {
        name: "skipAccumulatedMessage",
        words: &["group", "reset-offset", "--to", "latest"],
        flags: &[
            flag("g", "group", Meaning::Name),
            flag("t", "topic", Meaning::Filter("--topic")),
            flag("f", "force", Meaning::Ignored),
            CLUSTER,
            NAMESRV,
        ],
    },
    Alias {
        name: "consumerConnection",
        words: &["client", "list"],
        flags: &[flag("g", "consumerGroup", Meaning::Filter("--group")), BROKER, NAMESRV],
    },
    Alias {
        name: "producerConnection",
        words: &["client", "list"],
        flags: &[flag("g", "producerGroup", Meaning::Ignored), flag("t", "topic", Meaning::Filter("--topic")), NAMESRV],
    },
    Alias {
        name: "consumerStatus",
        words: &["client", "stack"],
        flags: &[
            flag("g", "consumerGroup", Meaning::Ignored),
            flag("i", "clientId", Meaning::Name),
            flag("s", "jstack", Meaning::IgnoredSwitch),
            BROKER,
            NAMESRV,
        ],
    },
    Alias { name: "queryMsgById", words: &["message", "get"], flags: &[TOPIC, MESSAGE, CLUSTER, NAMESRV] },
    Alias { name: "queryMsgByUniqueKey", words: &["message", "get"], flags: &[TOPIC, MESSAGE, CLUSTER, NAMESRV] },
    Alias {
        name: "queryMsgByKey",
        words: &["message", "find"],
        flags: &[
            TOPIC,
            flag("k", "msgKey", Meaning::Value("--key")),
            flag("b", "beginTimestamp", Meaning::Value("--from")),
            flag("e", "endTimestamp", Meaning::Value("--until")),
            flag("m", "maxNum", Meaning::Value("--max")),
            CLUSTER,
            NAMESRV,
        ],
    },
    Alias {
        name: "queryMsgByOffset",
        words: &["message", "get"],
        flags: &[
            TOPIC,
            flag("i", "queueId", Meaning::Value("--queue")),
            flag("o", "offset", Meaning::Value("--offset")),
            flag("b", "brokerName", Meaning::Ignored),
            NAMESRV,
        ],
    },
];

/// Translates a line whose first word is one of these names; `None` for every other line. `server_is_named` says that
/// the environment tells which server is meant, so that what the line says of namesrv may be passed over.
///
/// # Errors
/// What is wrong with the line, in words.
pub(crate) fn translate(args: &[OsString], server_is_named: bool) -> Option<Result<Translated, String>> {
    let place = 1 + before_the_name(args.get(1..)?);
    let name = args.get(place)?.to_str()?;
    let alias = ALIASES.iter().find(|alias| alias.name == name)?;
    Some(alias.translate(args, place, server_is_named))
}

/// How many words of flags about the output stand before the first other word.
fn before_the_name(args: &[OsString]) -> usize {
    match args.first().map(|arg| arg.to_string_lossy()).as_deref() {
        Some("-o" | "--output" | "--color") if args.len() > 1 => 2 + before_the_name(&args[2..]),
        Some(flag) if flag.starts_with('-') => 1 + before_the_name(&args[1..]),
        _ => 0,
    }
}

impl Alias {
    /// The options that become names behind the verb, in their order.
    fn names(&self) -> impl Iterator<Item = &Flag> {
        self.flags.iter().filter(|flag| matches!(flag.meaning, Meaning::Name))
    }

    fn translate(&self, args: &[OsString], place: usize, server_is_named: bool) -> Result<Translated, String> {
        let mut names = vec![None; self.names().count()];
        let (mut rest, mut hints, mut words) = (Vec::new(), Vec::new(), args.iter().skip(place + 1));
        let server_is_named = server_is_named || args.iter().any(|arg| names_a_server(&arg.to_string_lossy()));
        while let Some(word) = words.next() {
            let text = word.to_string_lossy();
            let Some(flag) =
                self.flags.iter().find(|flag| text == format!("-{}", flag.short) || text == format!("--{}", flag.long))
            else {
                rest.push(word.clone()); // ours, or a mistake that we tell
                continue;
            };
            let mut value = || words.next().cloned().ok_or_else(|| format!("{text} of {} needs a value", self.name));
            match flag.meaning {
                Meaning::Name => {
                    let place = self.names().position(|name| name.short == flag.short);
                    let place = place.expect("the flag is one of them");
                    names[place] = Some(value()?);
                }
                Meaning::Filter(ours) | Meaning::Value(ours) => rest.extend([ours.into(), value()?]),
                Meaning::Words(ours) => {
                    let given = value()?;
                    let given = given.to_string_lossy();
                    let ours = ours(&given).ok_or_else(|| format!("{text} {given} means nothing here"))?;
                    rest.extend(ours.into_iter().map(OsString::from));
                }
                Meaning::Ignored => hints.push(format!("{text} {} is not needed here", value()?.to_string_lossy())),
                Meaning::IgnoredSwitch => {}
                Meaning::Namesrv if server_is_named => {
                    hints.push(format!("{text} {} is not needed here", value()?.to_string_lossy()));
                }
                Meaning::Namesrv => {
                    return Err(format!(
                        "{text} says where namesrv is, but this tool asks the admin port of a proxy: use --admin-endpoint HOST:8088"
                    ));
                }
            }
        }
        let missing = |flag: &Flag| format!("{} needs -{} ({})", self.name, flag.short, flag.long);
        let names = self.names().zip(names).map(|(flag, name)| name.ok_or_else(|| missing(flag)));
        let mut line: Vec<OsString> = vec!["apogee".into()];
        line.extend_from_slice(&args[1..place]);
        line.extend(self.words.iter().map(OsString::from));
        line.extend(names.collect::<Result<Vec<_>, _>>()?);
        line.extend(rest);
        let shown: Vec<_> = line.iter().map(|word| word.to_string_lossy()).collect();
        hints.push(format!("the line for this is `{}`", shown.join(" ")));
        Ok(Translated { args: line, hints })
    }
}

fn names_a_server(arg: &str) -> bool {
    ["--admin-endpoint", "--endpoint", "--profile"]
        .iter()
        .any(|flag| arg == *flag || arg.starts_with(&format!("{flag}=")))
}

/// `+message.type=FIFO`, alone or beside other attributes.
fn message_type(attributes: &str) -> Option<Vec<String>> {
    let named = attributes.split(',').find_map(|one| one.trim().strip_prefix("+message.type="))?.to_lowercase();
    let known = ["normal", "fifo", "delay", "transaction", "mixed"].contains(&&*named);
    known.then(|| vec!["--type".to_owned(), named])
}

fn ordered_topic(value: &str) -> Option<Vec<String>> {
    Some(if value.parse().ok()? { vec!["--type".to_owned(), "fifo".to_owned()] } else { Vec::new() })
}

fn ordered_group(value: &str) -> Option<Vec<String>> {
    let order = if value.parse().ok()? { "fifo" } else { "concurrent" };
    Some(vec!["--order".to_owned(), order.to_owned()])
}

/// 4 for reading, 2 for writing.
fn permission(value: &str) -> Option<Vec<String>> {
    let named = match value {
        "2" => "write",
        "4" => "read",
        "6" => "read-write",
        _ => return None,
    };
    Some(vec!["--permission".to_owned(), named.to_owned()])
}

/// `now` or -1 is the end; other times are milliseconds here.
fn reset_to(time: &str) -> Option<Vec<String>> {
    let words: &[&str] = match time {
        "now" | "-1" => &["--to", "latest"],
        _ => &["--to", "timestamp", "--timestamp", time],
    };
    let known = words.len() == 2 || time.parse::<u64>().is_ok();
    known.then(|| words.iter().map(|word| (*word).to_owned()).collect())
}

/// Theirs are what comes after the first delivery.
fn attempts(value: &str) -> Option<Vec<String>> {
    let attempts = value.parse::<u32>().ok()?.checked_add(1)?;
    Some(vec!["--max-attempts".to_owned(), attempts.to_string()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, server_is_named: bool) -> Option<Result<(String, usize), String>> {
        let args: Vec<OsString> = text.split(' ').map(OsString::from).collect();
        let shown = |translated: Translated| {
            let words: Vec<_> = translated.args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
            (words.join(" "), translated.hints.len())
        };
        translate(&args, server_is_named).map(|translated| translated.map(shown))
    }

    fn check(theirs: &str, ours: &str, hints: usize) {
        assert_eq!(line(&format!("apogee {theirs}"), true), Some(Ok((format!("apogee {ours}"), hints))), "{theirs}");
    }

    #[test]
    fn lines_of_mqadmin_are_understood() {
        check("topicList", "topic list", 1);
        check("topicList -c -n h:9876 -o json", "topic list -o json", 2);
        check("updateTopic -n h:9876 -c C -t t -r 4 -w 4", "topic create --or-alter t --queues 4", 4);
        check(
            "updateTopic --topic t -a +message.type=FIFO -p 4",
            "topic create --or-alter t --type fifo --permission read",
            1,
        );
        check("-o json -q topicRoute -t t", "-o json -q topic route t", 1);
        check("topicStatus -t t", "topic stats t", 1);
        check("consumerProgress -g g -t t", "group lag g --topic t", 1);
        check("updateSubGroup -c C -g g -o true -r 16", "group create g --order fifo --max-attempts 17", 2);
        check("deleteTopic -t t -c C --yes", "topic delete t --yes", 2);
        check("sendMessage -p body -t t -c red", "message send t body --tag red", 1);
        check("resetOffsetByTime -g g -t t -s now", "group reset-offset g --topic t --to latest", 1);
        let to = "--to timestamp --timestamp 1700000000000";
        check("resetOffsetByTime -s 1700000000000 -g g -t t", &format!("group reset-offset g {to} --topic t"), 1);
        check("skipAccumulatedMessage -g g -t t", "group reset-offset --to latest g --topic t", 1);
        check("consumerConnection -g g", "client list --group g", 1);
        check("producerConnection -g p -t t", "client list --topic t", 2);
        check("consumerStatus -g g -i c -s", "client stack c", 2);
        check("queryMsgById -i 01AB -t t", "message get t 01AB", 1);
        check("queryMsgByKey -t t -k order-7 -m 3", "message find t --key order-7 --max 3", 1);
        check("queryMsgByOffset -t t -b b -i 3 -o 7", "message get t --queue 3 --offset 7", 2);
        assert_eq!(line("apogee topic list", true), None);
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        let refused = |text: &str, named| line(text, named).and_then(Result::err).unwrap_or_default();
        let told = refused("apogee topicList -n h:9876", false);
        assert!(told.contains("--admin-endpoint"), "{told}");
        assert_eq!(refused("apogee topicList -n h:9876 --admin-endpoint h:1", false), "");
        assert_eq!(refused("apogee topicRoute", true), "topicRoute needs -t (topic)");
        assert_eq!(refused("apogee topicRoute -t", true), "-t of topicRoute needs a value");
        assert_eq!(refused("apogee updateTopic -t t -a x", true), "-a x means nothing here");
        assert_eq!(refused("apogee resetOffsetByTime -g g -s noon", true), "-s noon means nothing here");
    }
}
