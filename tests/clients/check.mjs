// What both JavaScript clients' scripts share: counting what was as expected.
import { isDeepStrictEqual } from "node:util";

let passed = 0;
let failed = 0;

export async function expect(what, expected, found) {
  try {
    found = await (typeof found === "function" ? found() : found);
  } catch (error) {
    found = `error: ${error.message}`;
  }
  if (isDeepStrictEqual(found, expected)) {
    passed += 1;
  } else {
    failed += 1;
    console.log(`FAILED ${what}`, { expected, found });
  }
}

export function finish() {
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}
