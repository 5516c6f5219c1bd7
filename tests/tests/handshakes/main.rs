//! What the official SDKs for C++ and C# put on the wire, replayed against a real `apogee dev`, because neither builds
//! everywhere these tests run. The order of calls, headers, fields and deadlines are theirs; so are the demands on the
//! answers, which are those their own code makes.
//!
//! Source: apache/rocketmq-clients `cpp/source/`, `csharp/rocketmq-client-csharp/`.

mod cpp;
mod dotnet;
mod wire;
