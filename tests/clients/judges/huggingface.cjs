// @huggingface/inference, out of the packages of argv[2], asks the address argv[3] for each of the files that follow.
const { createRequire } = require("node:module");
const { readFileSync } = require("node:fs");
const { imageClassification } = createRequire(process.argv[2] + "/")("@huggingface/inference");

async function main([endpointUrl, ...files]) {
  for (const file of files) {
    const data = new Blob([readFileSync(file)], { type: "image/png" });
    try {
      console.log(JSON.stringify(await imageClassification({ endpointUrl, data })));
    } catch (error) {
      console.log(JSON.stringify({ raised: error.message }));
    }
  }
}

main(process.argv.slice(3));
