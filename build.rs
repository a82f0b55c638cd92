//! Build script: the soname of the shared library, the version of OpenSSL, and include/dv_dtls.h.
//!
//! The header is made from src/ffi with cbindgen and compared with the committed one. What `DV_HEADER` says happens when
//! they differ: `update` rewrites the committed one, `check` fails, anything else warns. Nothing is written into the tree
//! unasked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libdv_dtls.so.0");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    openssl_version();
    #[cfg(feature = "header")]
    header::compare_with_committed();
}

/// Tells the library which OpenSSL it is built against, for the comparison with the one that is loaded.
fn openssl_version() {
    let number = std::env::var("DEP_OPENSSL_VERSION_NUMBER").expect("openssl-sys tells its dependents the version");
    println!("cargo::rustc-env=DV_OPENSSL_VERSION_NUMBER={number}");
}

#[cfg(feature = "header")]
mod header {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};
    use std::{env, fs};

    const COMMITTED: &str = "include/dv_dtls.h";

    /// The sections in the order in which a program meets them. A new file comes last until it is named here.
    const ORDER: &str = "types context cookies table connection messages error config endpoint session connection_ids \
                         stats server export operate version log";

    /// What a declaration can mention, and the system header that has it.
    const INCLUDES: [(&str, &str); 6] = [
        ("size_t", "stddef.h"),
        ("int32_t int64_t uint8_t uint16_t uint32_t uint64_t", "stdint.h"),
        ("sockaddr socklen_t sockaddr_storage", "sys/socket.h"),
        ("sockaddr_in sockaddr_in6", "netinet/in.h"),
        ("epoll_event", "sys/epoll.h"),
        ("SSL SSL_CTX BIO X509 X509_STORE_CTX", "openssl/ssl.h"),
    ];

    const WIDTH: usize = 100;

    pub fn compare_with_committed() {
        for path in ["src/ffi", "cbindgen.toml", COMMITTED] {
            println!("cargo::rerun-if-changed={path}");
        }
        println!("cargo::rerun-if-env-changed=DV_HEADER");

        let made = generate();
        if fs::read_to_string(COMMITTED).is_ok_and(|committed| committed == made) {
            return;
        }
        match env::var("DV_HEADER").as_deref() {
            Ok("update") => fs::write(COMMITTED, made).unwrap_or_else(|e| panic!("{COMMITTED}: {e}")),
            Ok("check") => panic!("{COMMITTED} differs from what src/ffi says; `make header` rewrites it"),
            _ => println!("cargo::warning={COMMITTED} differs from what src/ffi says; `make header` rewrites it"),
        }
    }

    fn generate() -> String {
        let mut config = cbindgen::Config::from_file("cbindgen.toml").expect("cbindgen.toml");
        let overview = config.header.take().unwrap_or_default();
        let after_includes = config.after_includes.take().unwrap_or_default();

        let sections: String = sources().iter().map(|source| section(source, &config)).collect();
        let words: BTreeSet<&str> = sections.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).collect();
        let includes: String = INCLUDES
            .iter()
            .filter(|(names, _)| names.split(' ').any(|name| words.contains(name)))
            .map(|(_, header)| format!("#include <{header}>\n"))
            .collect();

        let part = |name| env::var(format!("CARGO_PKG_VERSION_{name}")).unwrap().parse::<u32>().unwrap();
        format!(
            "{}\n\n\
             /* Made by cbindgen from src/ffi: change it there, then `make header`. */\n\n\
             #ifndef DV_DTLS_H\n#define DV_DTLS_H\n\n{includes}\n\
             /** The version of this header as text; dv_version() has the library's. */\n\
             #define DV_VERSION \"{}\"\n\n\
             /** The version of this header: major * 65536 + minor * 256 + patch. */\n\
             #define DV_VERSION_NUM 0x{:06x}\n\n{}\n\n\
             #ifdef __cplusplus\nextern \"C\" {{\n#endif\n\
             {sections}\n\
             #ifdef __cplusplus\n}}\n#endif\n\n#endif\n",
            overview.trim(),
            env::var("CARGO_PKG_VERSION").unwrap(),
            part("MAJOR") << 16 | part("MINOR") << 8 | part("PATCH"),
            after_includes.trim(),
        )
    }

    /// The files of src/ffi that can declare something for C, in the header's order.
    fn sources() -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = ["src/ffi/helpers", "src/ffi"]
            .iter()
            .flat_map(|folder| fs::read_dir(folder).expect("src/ffi"))
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "rs") && !path.ends_with("mod.rs"))
            .collect();
        found.sort_by_key(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let rank = ORDER.split(' ').position(|n| n == name).unwrap_or(usize::MAX);
            (rank, name)
        });
        found
    }

    /// What one file declares, under its own title (the first paragraph of its `//!`); empty when it declares nothing.
    fn section(source: &Path, config: &cbindgen::Config) -> String {
        let text = fs::read_to_string(source).unwrap();
        let mut config = config.clone();
        for value in text.split("dv_omit = \"").skip(1).filter_map(|rest| rest.split('"').next()) {
            config.defines.insert(format!("dv_omit = {value}"), omit_macro(value));
        }
        let name = |declared: &str| declared.split([' ', ':', ';', '(']).next().unwrap().to_owned();
        let declared = |kind| text.lines().filter_map(move |line| line.trim_start().strip_prefix(kind)).map(name);
        // cbindgen leaves out types that no function mentions. What is not named dv_ is not for C, nor are the hooks of the
        // project's own tests.
        for kind in ["pub struct ", "pub union ", "pub enum ", "pub type "] {
            config.export.include.extend(declared(kind).filter(|name| name.starts_with("dv_")));
        }
        let constant_for_c = |name: &String| name.starts_with("DV_") || name.starts_with("DTLS_");
        config.export.exclude.extend(declared("pub const ").filter(|name| !constant_for_c(name)));
        config
            .export
            .exclude
            .extend(declared("pub unsafe extern \"C\" fn ").filter(|name| name.starts_with("dv_test_")));
        let mut body = Vec::new();
        cbindgen::Builder::new()
            .with_config(config)
            .with_src(source)
            .generate()
            .unwrap_or_else(|e| panic!("{}: {e}", source.display()))
            .write(&mut body);
        let body = String::from_utf8(body).unwrap();
        if body.trim().is_empty() {
            return String::new();
        }
        let title: Vec<&str> = text
            .lines()
            .map_while(|line| line.strip_prefix("//!"))
            .map(str::trim)
            .take_while(|l| !l.is_empty())
            .collect();
        let rule = "-".repeat(WIDTH - 6);
        let group = source.file_stem().unwrap().to_str().unwrap();
        let title = wrap(" * ", " * ", &plain(&format!("{group}: {}", title.join(" "))));
        format!("\n/* {rule}\n{title} * {rule} */\n\n{}\n", for_c(&body).trim())
    }

    /// `dtls_read` is left out by DV_OMIT_DTLS_READ; a value in capitals is itself the macro (`DV_OK`: when there is one).
    fn omit_macro(value: &str) -> String {
        if value.chars().any(|c| c.is_ascii_lowercase()) {
            format!("DV_OMIT_{}", value.to_ascii_uppercase())
        } else {
            value.to_owned()
        }
    }

    /// What cbindgen writes, in the form that a C reader and every C compiler since C89 expect.
    fn for_c(body: &str) -> String {
        let mut out = String::new();
        // The tags of the helper family's types began with an underscore before there was a library.
        let body = body.replace("struct dv_udp_", "struct _dv_udp_").replace("union dv_udp_", "union _dv_udp_");
        let mut lines = body.lines().peekable();
        while let Some(line) = lines.next() {
            let indent = &line[..line.len() - line.trim_start().len()];
            if line.trim() == "/**" {
                let doc: Vec<&str> = lines
                    .by_ref()
                    .take_while(|l| l.trim() != "*/")
                    .map(|l| l.trim_start().strip_prefix('*').unwrap_or(l))
                    .map(|l| l.strip_prefix(' ').unwrap_or(l))
                    .collect();
                out += &comment(&doc, indent);
                continue;
            }
            let mut line = line.to_owned();
            // cbindgen counts the comment when it looks whether a declaration fits on a line.
            if line.contains('(') && line.ends_with(',') {
                let parameters = 1 + lines.clone().take_while(|l| l.ends_with(',')).count();
                let rest: Vec<&str> = lines.clone().take(parameters).map(str::trim).collect();
                let joined = format!("{line} {}", rest.join(" "));
                if joined.len() <= WIDTH {
                    line = joined;
                    lines.nth(parameters - 1);
                }
            }
            // A negative constant needs its brackets, and C89 takes no comma after the last enumerator.
            if let Some((name, value)) = line.strip_prefix("#define ").and_then(|l| l.split_once(' '))
                && value.starts_with('-')
            {
                line = format!("#define {name} ({value})");
            }
            if lines.peek().is_some_and(|next| next.starts_with('}')) {
                line = line.trim_end_matches(',').to_owned();
            }
            out += &line;
            out.push('\n');
        }
        out
    }

    /// A doc comment in the form of docs/header-style.md, as a C comment.
    fn comment(doc: &[&str], indent: &str) -> String {
        let margin = format!("{indent} * ");
        let text: String = blocks(doc).iter().map(|block| rendered(block, &margin)).collect();
        match text.trim_end().strip_prefix(&margin) {
            Some(only) if !only.contains('\n') && indent.len() + only.len() + 7 <= WIDTH => {
                format!("{indent}/** {only} */\n")
            }
            _ => format!("{indent}/**\n{text}{indent} */\n"),
        }
    }

    /// Each paragraph and each item of a list as one line, each line of code as it is behind a tab, and empty lines.
    fn blocks(doc: &[&str]) -> Vec<String> {
        let mut blocks: Vec<String> = Vec::new();
        let (mut code, mut open) = (false, false);
        for line in doc.iter().take_while(|line| **line != "# Safety") {
            assert!(code || !line.starts_with('#'), "`{line}`: a heading has no place in a C comment");
            if line.starts_with("```") {
                code = !code;
                open = false;
            } else if code {
                blocks.push(format!("\t{line}"));
            } else if open && !line.is_empty() && !line.starts_with("- ") {
                *blocks.last_mut().unwrap() += &format!(" {}", line.trim());
            } else {
                open = !line.is_empty();
                blocks.push(line.trim().to_owned());
            }
        }
        while blocks.last().is_some_and(String::is_empty) {
            blocks.pop();
        }
        blocks
    }

    fn rendered(block: &str, margin: &str) -> String {
        if let Some(code) = block.strip_prefix('\t') {
            return format!("{margin}    {code}").trim_end().to_owned() + "\n";
        }
        let (first, rest, text) =
            if let Some((name, text)) = block.strip_prefix("- `").and_then(|b| b.split_once("`: ")) {
                (format!("@param {name} "), "    ", text)
            } else if let Some(text) = block.strip_prefix("Returns ") {
                ("@return ".to_owned(), "    ", text)
            } else if let Some(text) = block.strip_prefix("- ") {
                ("- ".to_owned(), "  ", text)
            } else {
                (String::new(), "", block)
            };
        wrap(&format!("{margin}{first}"), &format!("{margin}{rest}"), &plain(text))
    }

    /// Text without Rust's marks: `code` and [`links`] become plain words.
    fn plain(text: &str) -> String {
        text.replace("[`", "").replace("`]", "").replace('`', "")
    }

    fn wrap(first: &str, next: &str, text: &str) -> String {
        let mut out = String::new();
        let mut line = first.to_owned();
        let mut empty = true;
        for word in text.split_whitespace() {
            if !empty && line.len() + 1 + word.len() > WIDTH {
                out += line.trim_end();
                out.push('\n');
                line = next.to_owned();
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line += word;
            empty = false;
        }
        out + line.trim_end() + "\n"
    }
}
