import { test, expect } from "appwright";
import { id } from "../support/shop";

test("names the app's version", async ({ device }) => {
  await device.getByText("About this app").tap();
  const version = await device.getById(id("version"), { exact: true }).getText();
  console.log(`The app says: ${version}`);
  expect(version).toMatch(/^Version \d+\.\d+\.\d+$/);
});
