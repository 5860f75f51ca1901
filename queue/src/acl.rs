//! Credentials of workers.

use crate::name::QueueName;

/// Commands that the functions run on a worker's behalf, and those of a connection. Functions run with their caller's
/// rights, so a worker needs them itself; it gets no command that administers Redis, runs code or leaves the queue's keys.
const COMMANDS: [&str; 53] = [
    "fcall",
    "fcall_ro",
    "blpop",
    "publish",
    "pubsub|numsub",
    "ping",
    "hello",
    "auth",
    "select",
    "reset",
    "time",
    "get",
    "exists",
    "type",
    "del",
    "unlink",
    "hget",
    "hmget",
    "hset",
    "hdel",
    "hexists",
    "hgetall",
    "hincrby",
    "hlen",
    "hrandfield",
    "hscan",
    "hsetnx",
    "hstrlen",
    "hvals",
    "sadd",
    "scard",
    "smembers",
    "srem",
    "llen",
    "rpush",
    "zadd",
    "zrem",
    "zcard",
    "zcount",
    "zscore",
    "zmscore",
    "zrank",
    "zrange",
    "zrevrange",
    "zrangebyscore",
    "zremrangebyrank",
    "xadd",
    "xrange",
    "xrevrange",
    "multi",
    "exec",
    "discard",
    "subscribe",
];

/// Arguments of `ACL SETUSER` for the workers of one queue, the user's name first. `reset` makes applying it again exact:
/// rights and passwords that someone added are gone.
#[must_use]
pub fn worker_acl(name: &QueueName, user: &str, password: &str) -> Vec<String> {
    let root = name.root();
    let mut rules = vec![
        user.to_owned(),
        "reset".to_owned(),
        "on".to_owned(),
        format!(">{password}"),
        format!("~{root}:*"),
        // Functions are called with the root itself as their key.
        format!("~{root}"),
        format!("&{root}:*"),
        "-@all".to_owned(),
    ];
    rules.extend(COMMANDS.iter().map(|command| format!("+{command}")));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What only the operator's and the command line's functions do: writing policies.
    const ADMIN: [&str; 1] = ["set"];

    #[test]
    fn workers_may_do_what_the_library_does_on_their_behalf() {
        let source = crate::library::library_source();
        let named = source.split("call('").skip(1).filter_map(|rest| rest.split('\'').next());
        for command in named.map(str::to_lowercase) {
            let known = COMMANDS.iter().any(|known| known.split('|').next() == Some(&command));
            assert!(known || ADMIN.contains(&command.as_str()), "{command}");
        }
    }
}
