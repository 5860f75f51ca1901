//! The raw limits: the least Lua that stores, leases and acknowledges a job, driven by a client that does nothing
//! else. Same shapes as the peer benchmarks': one call per job on 50 connections (`raw-lua`), 50 jobs per call on 4
//! connections (`raw-batch`), acknowledge and take in one call (`raw-fused`), blocking list pops (`raw-list`). And requests
//! to an HTTP server without any queue.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lanekeeper_bench::jobs::{PAD, payload, sent_at};
use redis::{Parser, Value};

const ENQUEUE: &str = "local w=KEYS[1] for i=1,#ARGV,2 do redis.call('HSET','job:'..ARGV[i],'t','noop','d',ARGV[i+1]) redis.call('LPUSH',w,ARGV[i]) end return #ARGV/2";
const FUSED: &str = "for i=3,#ARGV do redis.call('ZREM',KEYS[2],ARGV[i]) redis.call('DEL','job:'..ARGV[i]) end local ids=redis.call('RPOP',KEYS[1],ARGV[1]) local out={} if not ids then return out end for i,id in ipairs(ids) do redis.call('ZADD',KEYS[2],ARGV[2],id) out[2*i-1]=id out[2*i]=redis.call('HGET','job:'..id,'d') end return out";

struct Line {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    parser: Parser,
}

impl Line {
    fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("raw client: connect")?;
        stream.set_nodelay(true)?;
        let reader = BufReader::with_capacity(1 << 16, stream.try_clone()?);
        Ok(Self { stream, reader, parser: Parser::new() })
    }

    fn send(&mut self, command: &redis::Cmd) -> Result<()> {
        Ok(self.stream.write_all(&command.get_packed_command())?)
    }

    fn receive(&mut self) -> Result<Value> {
        match self.parser.parse_value(&mut self.reader)? {
            Value::ServerError(error) => bail!("raw client: {error:?}"),
            value => Ok(value),
        }
    }

    fn call(&mut self, command: &redis::Cmd) -> Result<Value> {
        self.send(command)?;
        self.receive()
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        _ => String::new(),
    }
}

fn load(port: u16, script: &str) -> Result<String> {
    let reply = Line::open(port)?.call(redis::cmd("SCRIPT").arg("LOAD").arg(script))?;
    Ok(text(&reply))
}

/// Enqueues `n` jobs over `connections`, `batch` per call, one call in flight on each; returns the time taken.
pub(crate) fn enqueue(port: u16, n: usize, connections: usize, batch: usize) -> Result<Duration> {
    let sha = load(port, ENQUEUE)?;
    let mut lines = (0..connections).map(|_| Line::open(port)).collect::<Result<Vec<_>>>()?;
    let started = Instant::now();
    let mut next = 0;
    while next < n {
        let mut used = 0;
        for line in &mut lines {
            if next >= n {
                break;
            }
            let mut call = redis::cmd("EVALSHA");
            call.arg(&sha).arg(1).arg("wait");
            for _ in 0..batch.min(n - next) {
                call.arg(next).arg(payload(next, 0.0, PAD));
                next += 1;
            }
            line.send(&call)?;
            used += 1;
        }
        for line in &mut lines[..used] {
            line.receive()?;
        }
    }
    Ok(started.elapsed())
}

/// Drains `n` jobs with acknowledge and take in one call; returns the time taken.
pub(crate) fn drain_fused(port: u16, n: usize, connections: usize, batch: usize) -> Result<Duration> {
    let sha = load(port, FUSED)?;
    let mut lines = (0..connections).map(|_| (Line::open(port), Vec::<String>::new())).collect::<Vec<_>>();
    let started = Instant::now();
    let mut got = 0;
    while got < n {
        for (line, held) in &mut lines {
            let mut call = redis::cmd("EVALSHA");
            call.arg(&sha).arg(2).arg("wait").arg("lease").arg(batch).arg(1_700_000_000);
            for id in held.drain(..) {
                call.arg(id);
            }
            line.as_mut().map_err(|e| anyhow::anyhow!("{e}"))?.send(&call)?;
        }
        let before = got;
        for (line, held) in &mut lines {
            if let Value::Array(items) = line.as_mut().map_err(|e| anyhow::anyhow!("{e}"))?.receive()? {
                held.extend(items.iter().step_by(2).map(text));
                got += held.len();
            }
        }
        if got == before && got < n {
            bail!("raw drain: {got} of {n} jobs found");
        }
    }
    Ok(started.elapsed())
}

/// Paces `rate` jobs per second for `seconds` through a list and one blocking worker; returns sorted latencies in ms.
pub(crate) fn pickup_list(port: u16, rate: usize, seconds: usize) -> Result<Vec<f64>> {
    let n = rate * seconds;
    let clock = Instant::now();
    let consumer = std::thread::spawn(move || -> Result<Vec<f64>> {
        let mut line = Line::open(port)?;
        let mut latencies = Vec::with_capacity(n);
        for _ in 0..n {
            let job = line.call(redis::cmd("BRPOPLPUSH").arg("l:wait").arg("l:busy").arg(0))?;
            let body = text(&job);
            let sent = sent_at(body.as_bytes()).context("raw list: payload")?;
            latencies.push((clock.elapsed().as_secs_f64() - sent) * 1e3);
            line.call(redis::cmd("LREM").arg("l:busy").arg(-1).arg(body))?;
        }
        latencies.sort_by(f64::total_cmp);
        Ok(latencies)
    });
    let mut line = Line::open(port)?;
    for i in 0..n {
        pace(clock, i, rate);
        line.call(redis::cmd("LPUSH").arg("l:wait").arg(payload(i, clock.elapsed().as_secs_f64(), PAD)))?;
    }
    consumer.join().map_err(|_| anyhow::anyhow!("raw list worker panicked"))?
}

/// Waits until job `i` of a steady `rate` is to be sent.
fn pace(clock: Instant, i: usize, rate: usize) {
    let due = Duration::from_secs_f64(i as f64 / rate as f64);
    while let Some(left) = due.checked_sub(clock.elapsed()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// Posts `n` payloads over `connections` that are kept, one request in flight on each; returns the time taken.
pub(crate) fn post(to: SocketAddr, n: usize, connections: usize) -> Result<Duration> {
    let connect = |_| {
        let stream = TcpStream::connect(to).context("raw HTTP: connect")?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let mut streams = (0..connections).map(connect).collect::<Result<Vec<_>>>()?;
    let started = Instant::now();
    for from in (0..n).step_by(connections) {
        let now = connections.min(n - from);
        for (i, stream) in streams[..now].iter_mut().enumerate() {
            let body = payload(from + i, 0.0, PAD);
            let head = format!("POST /jobs HTTP/1.1\r\nhost: {to}\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes())?;
        }
        for stream in &mut streams[..now] {
            read_empty_response(stream)?;
        }
    }
    Ok(started.elapsed())
}

/// Reads a response without a body; it may come in pieces.
fn read_empty_response(stream: &mut TcpStream) -> Result<()> {
    let (mut buffer, mut filled) = ([0u8; 1024], 0);
    while !buffer[..filled].ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut buffer[filled..])?;
        ensure!(read > 0, "raw HTTP: the response broke off or is too long");
        filled += read;
    }
    ensure!(buffer.starts_with(b"HTTP/1.1 200"), "raw HTTP: not a success");
    Ok(())
}
